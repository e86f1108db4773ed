// Times in the reader's own zone, and a page that is never older than half a minute. Without this, it can be read all the same.
"use strict";

const pad = (n) => String(n).padStart(2, "0");
const now = document.querySelector("footer time");
const today = (now ? new Date(now.dateTime) : new Date()).toDateString();
for (const element of document.querySelectorAll("time[datetime]")) {
  const at = new Date(element.dateTime);
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(pad).join(":");
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(pad).join("-");
  element.textContent = element.closest("h1")
    ? (at.toDateString() === today ? clock.slice(0, 5) : day + " " + clock.slice(0, 5))
    : (at.toDateString() === today ? clock : day + " " + clock);
}

const busy = () => {
  const at = document.activeElement;
  return at && at.matches("input, button") && (at.type !== "search" || at.value !== at.defaultValue);
};
if (!document.body.classList.contains("login")) {
  setInterval(() => {
    if (!document.hidden && !busy()) location.replace(location.pathname + (new URLSearchParams(location.search).has("q") ? location.search : ""));
  }, 30_000);
}
