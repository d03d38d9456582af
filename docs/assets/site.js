// What scrolls sideways can be reached and scrolled by keys. The theme wraps tables once the page has loaded.
const reach = () => {
  for (const part of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) part.tabIndex = 0;
};
addEventListener("load", () => {
  reach();
  new MutationObserver(reach).observe(document.querySelector("article"), { childList: true, subtree: true });
});
