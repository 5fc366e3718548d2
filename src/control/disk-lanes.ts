import type { DiskLanes, LaneKind } from "../device/disk-lane.js";
import type { StorageLayers } from "./layers.js";

/** The same layers; each disk that is opened goes by its lane, faults and all. */
export function byLanes(layers: StorageLayers, lanes: DiskLanes): StorageLayers {
  const opening = (open: StorageLayers["openDevice"], kind: LaneKind) => async (place: string) =>
    lanes.over(await open(place), kind);
  return {
    ...layers,
    openDevice: opening((place) => layers.openDevice(place), "data"),
    openShared: opening((place) => layers.openShared(place), "data"),
    openReadOnly: opening((place) => layers.openReadOnly(place), "control"),
  };
}
