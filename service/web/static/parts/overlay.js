// What was found in a photo, drawn over it: boxes, landmarks, labels. Lines keep their width at any size.

import { drawn, element } from "./elements.js";

const NEAR_THE_TOP = 0.09; // of the height: a label above the box would not fit, so it goes below
const FAR_RIGHT = 0.6; // of the width: a label is set flush right
const SAME_LINE = 0.15; // of the height: labels of boxes nearer than this could run into each other
const SHORT = 2; // characters: a label of that length stays over its box

/**
 * faces: [{box, landmarks, tone, label, note}], positions in pixels of a photo of width x height.
 * tone: "yes", "no" or "plain". note: stands behind the label where the photo is wide enough.
 */
export function overlay(width, height, faces) {
  const picture = drawn("svg", { class: "marks", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    ...faces.flatMap(marks));
  return element("div", { class: "overlay" }, picture,
    ...faces.filter((face) => face.label).map((face) => tag(face, width, height, faces)));
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

function tag(face, width, height, faces) {
  const { box, tone, label, note } = face;
  const flushRight = growsLeft(face, width);
  const below = box.y / height < NEAR_THE_TOP;
  const beside = faces.filter((other) => other !== face && Math.abs(other.box.y - box.y) < SAME_LINE * height);
  return element("span", {
    class: `tag ${tone}${flushRight ? " flush-right" : ""}${below ? " below" : ""}`,
    "--x": share(flushRight ? 1 - (box.x + box.width) / width : box.x / width),
    "--y": share((below ? box.y + box.height : box.y) / height),
    "--room": share(room(face, beside, width) / width),
  }, label, note ? element("span", { class: "tag-note" }, ` ${note}`) : null);
}

const growsLeft = ({ box }, width) => (box.x + box.width / 2) / width > FAR_RIGHT;

/** How wide a label may be: as far as the next box, or half as far where that one's label comes towards it. */
function room(face, beside, width) {
  const { box } = face;
  const leftwards = growsLeft(face, width);
  const ahead = beside.filter((other) => (leftwards ? other.box.x < box.x : other.box.x > box.x));
  const gaps = ahead.map((other) => {
    const gap = leftwards ? box.x - other.box.x - other.box.width : other.box.x - box.x - box.width;
    return growsLeft(other, width) !== leftwards && other.label?.length > SHORT ? gap / 2 : gap;
  });
  return box.width + Math.max(0, Math.min(...gaps, width));
}

const share = (value) => `${(100 * Math.max(0, value)).toFixed(2)}%`;
