
// ---- This page --------------------------------------------------------------------------------------------------

for (const holder of document.querySelectorAll("figure > .live")) {
  const figure = holder.parentElement;
  draw(holder, JSON.parse(holder.nextElementSibling.textContent));
  figure.classList.add("drawn"); // from now on its static picture is for paper, and for who asks for it
  const still = figure.querySelector(".still");
  if (!still) continue;
  const words = { type: "button", className: "ask", textContent: "the printed picture" };
  const button = append(figure, "button", words, { "aria-expanded": "false" });
  holder.nextElementSibling.after(button);
  button.addEventListener("click", () => {
    button.setAttribute("aria-expanded", figure.classList.toggle("asked"));
    if (figure.classList.contains("asked")) button.after(still);
  });
}
document.documentElement.classList.add("drawn");
