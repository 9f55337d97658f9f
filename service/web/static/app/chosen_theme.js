// Runs before the first paint, so that the page does not flash in the other theme. Not a module: modules wait.

document.documentElement.dataset.theme = localStorage.getItem("facemargin-theme") ?? "";
