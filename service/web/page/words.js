/** What the page says when something goes wrong, and what to do about it. */

/** @param {any} error What `openCamera` or `getUserMedia` threw. @returns {string} */
export function cameraWords(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser has blocked the camera. Allow it beside the address of this page, then press Camera again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found. Connect one, or open a picture or video.";
    case "NotReadableError":
    case "AbortError":
      return "The camera is in use by another program. Close that one, then press Camera again.";
  }
  if (!globalThis.isSecureContext) {
    return (
      "Browsers give the camera only to secure pages. Open this page over HTTPS, or at localhost on the server's own " +
      "machine. Pictures and videos work here too."
    );
  }
  return `The camera could not be opened: ${error?.message ?? error}`;
}

/**
 * @param {import("../stream.js").State} state Of a stream.
 * @returns {string} Empty if there is nothing to say.
 */
export function streamWords({ name, code, reason, resumed }) {
  if (name === "lost") {
    if (code === 1013) return `The server is full. The page tries again by itself. (${reason || "try later"})`;
    if (code === 4429) return "This client has begun too many streams. The page tries again by itself.";
    if (code === 1001 || code === 1012) return "The server is restarting. The page continues when it is back.";
    return "The connection is lost. The page connects again by itself.";
  }
  if (name === "closed" && code) {
    if (code === 4401) return "The server needs an API key that it knows.";
    if (code === 4404) return `This server has no such model: ${reason}`;
    if (code === 4409) return "Another page has taken over this stream.";
    if (code === 4422) return `The server does not accept these settings: ${reason}`;
    if (code === 1009) return "The frames are larger than this server accepts.";
    return `The server has ended the stream: ${reason || code}`;
  }
  if (name === "open" && resumed) return "Connected again. Everybody has kept their number.";
  if (name === "open" && reason) return `Connected again, as a new stream: people get new numbers. (${reason})`;
  return "";
}

/** @param {{state: string, reason?: string}} camera A camera of the server. @returns {string} */
export function stateWords({ state, reason }) {
  const words = { connecting: "is connecting", lost: "is lost and tried again by itself", elsewhere: "is at another server" };
  return `${words[/** @type {keyof typeof words} */ (state)] ?? `is ${state}`}${reason ? `: ${reason}` : ""}`;
}

/** @param {any} error Of a request. @returns {string} */
export function requestWords(error) {
  if (error?.name === "AbortError") return "";
  if (error?.status === 401) return "The server needs an API key that it knows.";
  if (error?.status === 429) return `Too many requests at once. Try again${inSeconds(error.retryAfter)}.`;
  if (error?.status === 503) return `The server is busy. Try again${inSeconds(error.retryAfter)}.`;
  if (error?.status === 413) return `The file is too large for this server: ${error.message}`;
  if (error?.status) return `The server could not do that: ${error.message}`;
  if (error instanceof TypeError) return "The server cannot be reached.";
  return String(error?.message ?? error);
}

/** @param {number} seconds */
const inSeconds = (seconds) => (seconds ? ` in ${seconds} s` : " in a moment");

/** @param {number} seconds @returns {string} As 1:05. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** @param {number} count @param {string} one @param {string} several */
export const counted = (count, one, several) => `${count} ${count === 1 ? one : several}`;
