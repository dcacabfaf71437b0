for (const section of document.querySelectorAll("[data-failures]")) {
  const filter = section.querySelector(".filter");
  if (!filter) continue;
  const buttons = [...filter.querySelectorAll("button")];
  const rows = [...section.querySelectorAll("details.row")];
  const status = section.querySelector("[role=status]");
  const show = (chosen) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
    let left = 0;
    for (const row of rows) {
      row.hidden = chosen.dataset.class !== undefined && row.dataset.class !== chosen.dataset.class;
      left += row.hidden ? 0 : 1;
    }
    status.textContent = `${left} of ${rows.length} shown`;
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  filter.hidden = false;
  show(buttons[0]);
}
