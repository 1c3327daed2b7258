
// ---- This page --------------------------------------------------------------------------------------------------

for (const holder of document.querySelectorAll("figure > .live")) {
  draw(holder, JSON.parse(holder.nextElementSibling.textContent));
  holder.parentElement.classList.add("drawn"); // from now on its static picture is for paper alone
}
document.documentElement.classList.add("drawn");
