// A form that filters a list leaves its empty fields out of the address, and sends moments with their zone. A press on
// one of its chips is enough to filter.
export function startFilters() {
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-filters]")) return;
    for (const field of [...event.target.elements]) if (field.name) prepare(field);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("form[data-filters] .chip input")) event.target.form.requestSubmit();
  });
  addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form[data-filters] :disabled")) field.disabled = false;
    for (const sent of document.querySelectorAll("form[data-filters] [data-sent]")) sent.remove();
  });
  for (const field of document.querySelectorAll("input[data-moment]")) if (field.dataset.moment) field.value = local(field.dataset.moment);
}

function prepare(field) {
  if (field.value && field.dataset.moment !== undefined) {
    const sent = document.createElement("input");
    sent.type = "hidden";
    sent.name = field.name;
    sent.value = new Date(field.value).toISOString();
    sent.dataset.sent = "yes";
    field.after(sent);
    field.disabled = true;
  } else if (!field.value) field.disabled = true;
}

function local(moment) {
  const at = new Date(moment);
  return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}
