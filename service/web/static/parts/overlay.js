// What was found in a photo, drawn over it: boxes, landmarks, labels. Lines keep their width at any size.

import { drawn, element } from "./elements.js";

const NEAR_THE_TOP = 0.09; // of the height: a label above the box would not fit, so it goes below
const FAR_RIGHT = 0.6; // of the width: a label is set flush right

/**
 * faces: [{box, landmarks, tone, label}], positions in pixels of a photo of width x height.
 * tone: "yes", "no" or "plain".
 */
export function overlay(width, height, faces) {
  const picture = drawn("svg", { class: "marks", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    ...faces.flatMap(marks));
  return element("div", { class: "overlay" }, picture,
    ...faces.filter((face) => face.label).map((face) => tag(face, width, height)));
}

function marks({ box, landmarks, tone }) {
  const outline = { x: box.x, y: box.y, width: box.width, height: box.height };
  // A line of no length with round ends is a dot whose size does not depend on the photo's.
  const dots = (landmarks ?? []).map(({ x, y }) => `M${x} ${y}h0.001`).join("");
  return [
    drawn("rect", { class: "box-edge", ...outline }),
    drawn("rect", { class: `box ${tone}`, ...outline }),
    dots ? drawn("path", { class: "dot-edge", d: dots }) : null,
    dots ? drawn("path", { class: `dot ${tone}`, d: dots }) : null,
  ];
}

function tag({ box, tone, label }, width, height) {
  const flushRight = (box.x + box.width / 2) / width > FAR_RIGHT;
  const below = box.y / height < NEAR_THE_TOP;
  return element("span", {
    class: `tag ${tone}${flushRight ? " flush-right" : ""}${below ? " below" : ""}`,
    "--x": share(flushRight ? 1 - (box.x + box.width) / width : box.x / width),
    "--y": share((below ? box.y + box.height : box.y) / height),
  }, label);
}

const share = (value) => `${(100 * Math.max(0, value)).toFixed(2)}%`;
