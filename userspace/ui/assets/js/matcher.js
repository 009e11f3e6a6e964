// The search field: plain text in any case, "an exact name", or /a pattern/.

const REGEX_MAX_CHARS = 200;

export function exactly(name) {
  return `"${name}"`;
}

// Returns { test, error }; test is null when there is nothing to search for.
export function parseSearch(text) {
  if (!text) return { test: null, error: "" };
  if (text.length > 2 && text.startsWith('"') && text.endsWith('"')) {
    const name = text.slice(1, -1);
    return { test: (frame) => frame.name === name, error: "" };
  }
  if (text.length > 2 && text.startsWith("/") && text.endsWith("/")) {
    if (text.length > REGEX_MAX_CHARS) return { test: null, error: "pattern too long" };
    try {
      const pattern = new RegExp(text.slice(1, -1), "i");
      return { test: (frame) => pattern.test(frame.name) || pattern.test(frame.file), error: "" };
    } catch {
      return { test: null, error: "not a valid pattern" };
    }
  }
  const wanted = text.toLowerCase();
  return {
    test: (frame) => frame.name.toLowerCase().includes(wanted) || frame.file.toLowerCase().includes(wanted),
    error: "",
  };
}
