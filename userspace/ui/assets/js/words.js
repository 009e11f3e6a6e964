// What the page says about an answer: what it holds, what is missing, what to make of nothing.

import { count, duration, percent } from "./format.js";
import { isFiltered } from "./view.js";

export function summary(answer) {
  const parts = [`${duration(answer.total_ns)} of CPU time`];
  if (isFiltered()) parts.push(`${percent(answer.total_ns, answer.machine_ns)} of the machine`);
  if (answer.period_ns) parts.push(`${count(Math.round(answer.total_ns / answer.period_ns))} samples`);
  const { nodes, threshold_ns, deep_samples } = answer.folded;
  if (nodes) parts.push(`${count(nodes)} frames under ${duration(threshold_ns)} folded into (other)`);
  if (deep_samples) parts.push(`${count(deep_samples)} stacks cut at 1,200 frames`);
  return parts.join(", ");
}

// Title and text for an answer without samples.
export function emptyReason(answer, status) {
  if (answer.machine_ns > 0) {
    return ["Nothing matches", "The machine was busy in this range, but no sample passes the filters. Clear a filter or widen the range."];
  }
  if (status && !status.healthy.ok) return ["No samples", status.healthy.message];
  if (status && status.ticks.delivered === 0) {
    return ["No samples yet", "No samples yet: the profiler has just started, or every CPU has been idle. The first ones show within a few seconds."];
  }
  return ["No samples in this range", "Nothing is stored for this time. It may be before the collector started, or older than what it keeps."];
}

export function warnings(answer, status) {
  const list = [];
  if (status && !status.healthy.ok) list.push(`Unhealthy: ${status.healthy.message}.`);
  if (answer.truncated) {
    list.push("There is more in this range than is read at once; the rest is summed as (truncated). Choose a shorter range or a filter.");
  }
  if (answer.skipped_records) list.push(`${count(answer.skipped_records)} stored records could not be read and are left out.`);
  if (answer.skipped_samples) list.push(`${count(answer.skipped_samples)} samples made no sense and are left out.`);
  if (answer.series_omitted.count) {
    list.push(`${count(answer.series_omitted.count)} small series are not in the filters' lists.`);
  }
  return list;
}
