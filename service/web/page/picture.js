/** A picture from a file, as it is shown and as it is sent. */

/**
 * @typedef {object} Picture
 * @property {ImageBitmap} bitmap To show.
 * @property {Blob} blob To send.
 */

const LONGEST = 2560; // pixels; more do not help the networks, and large photographs would be refused
const MOST_BYTES = 8e6;

/**
 * Read a picture, and make it smaller if it is very large.
 *
 * @param {Blob} file
 * @returns {Promise<Picture>} Rejects if the browser cannot read it.
 */
export async function readPicture(file) {
  const whole = await createImageBitmap(file).catch(() => {
    throw new Error("this browser cannot read it as a picture");
  });
  const scale = LONGEST / Math.max(whole.width, whole.height);
  if (scale >= 1 && file.size <= MOST_BYTES) return { bitmap: whole, blob: file };
  const shrink = Math.min(1, scale);
  const [width, height] = [Math.round(whole.width * shrink), Math.round(whole.height * shrink)];
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.drawImage(whole, 0, 0, width, height);
  whole.close();
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return { bitmap: canvas.transferToImageBitmap(), blob };
}
