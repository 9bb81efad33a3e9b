// Before the page is drawn: the theme that was chosen, and that there are scripts.
(function () {
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var theme = localStorage.getItem("litml-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch (error) { /* storage is off: the system's theme it is */ }
})();
