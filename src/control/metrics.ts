/** Prometheus text exposition format 0.0.4. */

export interface Sample {
  /** Without the prefix, with its unit last: `resident_bytes`. */
  readonly name: string;
  readonly value: number;
  readonly labels?: Readonly<Record<string, string>>;
}

export function renderMetrics(samples: readonly Sample[]): string {
  const byName = new Map<string, Sample[]>();
  for (const sample of samples) {
    const list = byName.get(sample.name);
    if (list === undefined) byName.set(sample.name, [sample]);
    else list.push(sample);
  }
  return [...byName].map(([name, list]) => renderMetric(`stripeward_${name}`, list)).join("");
}

/** A name that ends in `_total` is a counter, every other a gauge. */
function renderMetric(name: string, samples: readonly Sample[]): string {
  const type = name.endsWith("_total") ? "counter" : "gauge";
  return `# TYPE ${name} ${type}\n${samples.map((sample) => renderSample(name, sample)).join("")}`;
}

function renderSample(name: string, { labels = {}, value }: Sample): string {
  const inside = Object.entries(labels)
    .map(([label, text]) => `${label}="${escapeLabel(text)}"`)
    .join(",");
  return `${name}${inside === "" ? "" : `{${inside}}`} ${value}\n`;
}

function escapeLabel(text: string): string {
  return text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
}

/** `fullStripeWrites` becomes `full_stripe_writes`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace(/[^a-z0-9_]/g, "_");
}

/** A record of numbers as samples with one prefix and one set of labels. */
export function samplesOf(
  prefix: string,
  values: Readonly<Record<string, unknown>>,
  labels: Readonly<Record<string, string>> = {},
): Sample[] {
  return Object.entries(values).flatMap(([name, value]) =>
    typeof value === "number" ? [{ name: `${prefix}_${snakeCase(name)}`, value, labels }] : [],
  );
}
