// Inside Airflow's frame: follow its colour scheme, and open links to its pages outside the frame.
const host = window.parent === window ? null : window.parent.document;
if (host) {
  const root = host.documentElement;
  const paint = () => {
    document.documentElement.style.colorScheme = root.classList.contains("dark") ? "dark" : "light";
  };
  paint();
  new MutationObserver(paint).observe(root, {attributes: true});
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-out]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const outer = host.createElement("a");
    outer.href = link.href;
    outer.click();
  });
}
