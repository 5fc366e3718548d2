/* Sends IPv4 packets as they are told: each line of standard input is one, in hexadecimal, header and all. ip(7): IPPROTO_RAW implies IP_HDRINCL. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int main(void) {
  static char line[140000];
  static unsigned char packet[70000];
  int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  int on = 1;
  if (raw < 0) {
    perror("raw socket");
    return 1;
  }
  setsockopt(raw, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  while (fgets(line, sizeof line, stdin) != NULL) {
    size_t size = 0;
    for (; size < sizeof packet && digit(line[2 * size]) >= 0 && digit(line[2 * size + 1]) >= 0; size++)
      packet[size] = (unsigned char)(digit(line[2 * size]) * 16 + digit(line[2 * size + 1]));
    if (size < 20) continue;
    struct sockaddr_in to = {.sin_family = AF_INET};
    memcpy(&to.sin_addr, packet + 16, 4);
    /* What the kernel refuses is not sent. */
    (void)!sendto(raw, packet, size, 0, (struct sockaddr *)&to, sizeof to);
  }
  return 0;
}
