// Keeps the sandbox's page up to date, and makes its switches work.
// Everything is drawn by the server: this fetches the page again and replaces what has changed.

const EVERY = 1000; // milliseconds
const say = document.getElementById("status");
const pause = document.getElementById("pause");
const GONE = "The sandbox did not answer. Is it still running?";
let isPaused = false;

async function ask(path, method = "GET", body = undefined) {
  const answer = await fetch(path, {
    method,
    cache: "no-store",
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status}`);
  return answer.text();
}

async function refresh() {
  const fresh = new DOMParser().parseFromString(await ask("/"), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (now && now.innerHTML !== part.innerHTML) part.replaceChildren(...now.childNodes);
  }
  for (const button of document.querySelectorAll("[role=switch]")) {
    const now = fresh.getElementById(button.id);
    if (now) button.setAttribute("aria-checked", now.getAttribute("aria-checked"));
  }
  if (say.textContent === GONE) say.textContent = "";
}

// Does something, tells what was done, and shows the result; or tells that it failed.
async function act(done, action) {
  try {
    await action();
    await refresh();
    say.textContent = done;
  } catch {
    say.textContent = GONE;
  }
}

for (const button of document.querySelectorAll("[role=switch]")) {
  button.addEventListener("click", () => {
    const isOn = button.getAttribute("aria-checked") !== "true";
    const change = { [button.id]: isOn ? Number(button.dataset.on) : 0 };
    act(`${button.textContent}: ${isOn ? "on" : "off"}`, () =>
      ask("/sandbox/settings", "PATCH", change),
    );
  });
}

for (const button of document.querySelectorAll("[data-post]")) {
  button.addEventListener("click", () =>
    act(`${button.textContent}: done`, () => ask(button.dataset.post, "POST")),
  );
}

document.getElementById("script").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const [endpoint, outcome] = [given.get("endpoint"), given.get("outcome")];
  act(`The next ${endpoint} ends with ${outcome}`, () =>
    ask("/sandbox/script", "POST", { endpoint, outcomes: [outcome] }),
  );
});

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Continue" : "Pause";
});

async function repeat() {
  if (!isPaused && !document.hidden) {
    try {
      await refresh();
    } catch {
      say.textContent = GONE;
    }
  }
  setTimeout(repeat, EVERY);
}

setTimeout(repeat, EVERY);
