// Photos that come by dropping, pasting or choosing.

const ACCEPTED = "image/*,.heic,.heif";
const NAMED_LIKE_PHOTOS = /\.(jpe?g|png|webp|bmp|gif|tiff?|heic|heif)$/i;

/** The images of a drop or a paste. Systems that do not know HEIC give it no type, so the name counts too. */
export function imagesOf(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/") || NAMED_LIKE_PHOTOS.test(file.name));
}

/** An <input> that gives the photos chosen with it to `take`. */
export function photoInput(label, multiple, take) {
  const input = document.createElement("input");
  Object.assign(input, { type: "file", accept: ACCEPTED, multiple });
  input.setAttribute("aria-label", label);
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same photo can be chosen again
    if (files.length) take(files);
  });
  return input;
}

/** Let photos be dropped on `place`; others beside it never hear of them. */
export function takeDrops(place, take) {
  place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    place.classList.remove("over");
    const images = imagesOf(event.dataTransfer);
    if (images.length) take(images);
  });
}
