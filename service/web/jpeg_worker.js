/** A worker that makes JPEGs: a page's own thread makes them only when it is idle, which may be many frames later. @module */
import { jpegMaker } from "./encoders.js";

const make = jpegMaker();
onmessage = async ({ data }) => postMessage(await make(data).catch((error) => error));
