// The API's answer as a tree of plain objects, the shape that the flame graph library takes.

export function decode(answer) {
  const nodes = [];
  for (const [frameIndex, parentIndex, self, total] of answer.nodes) {
    const frame = answer.frames[frameIndex];
    const parent = parentIndex < 0 ? null : nodes[parentIndex];
    const node = {
      name: frame.name,
      value: total,
      self,
      frame,
      parent,
      depth: parent ? parent.depth + 1 : 0,
      path: pathHash(parent ? parent.path : 0x811c9dc5, frame),
      match: false,
      hide: false,
      fade: false,
      children: [],
    };
    if (parent) parent.children.push(node);
    nodes.push(node);
  }
  const top = answer.top.map(([frameIndex, self, total]) => ({ frame: answer.frames[frameIndex], self, total }));
  return { answer, nodes, root: nodes[0], top, totalNs: answer.total_ns };
}

export function findPath(profile, path) {
  return path ? profile.nodes.find((node) => node.path.toString(16) === path) ?? null : null;
}

export function ancestors(node) {
  const path = [];
  for (let at = node; at; at = at.parent) path.unshift(at);
  return path;
}

// Marks what matches; the sum counts a match inside another match once.
export function markMatches(profile, matcher) {
  let sum = 0;
  let frames = 0;
  for (const node of profile.nodes) {
    const hit = Boolean(matcher) && node.frame.kind !== "root" && matcher(node.frame);
    node.match = hit;
    node.inMatch = Boolean(node.parent && (node.parent.match || node.parent.inMatch));
    if (hit) {
      frames += 1;
      if (!node.inMatch) sum += node.value;
    }
  }
  return { sum, frames };
}

function pathHash(seed, frame) {
  let hash = seed;
  const text = `${frame.kind}\0${frame.name}\0${frame.module}\0${frame.file}`;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
