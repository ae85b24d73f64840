// What the pages do better with a script. Without it they do the same, with a click more.
"use strict";

// The list: tick everybody, and say how many are ticked.
(() => {
	const form = document.getElementById("people");
	const all = document.getElementById("all");
	if (!form || !all) return;
	const boxes = [...form.querySelectorAll("tbody input[type=checkbox]")];
	const count = form.querySelector(".count");
	const none = count.textContent;
	const show = () => {
		const n = boxes.filter((box) => box.checked).length;
		all.checked = n > 0 && n === boxes.length;
		all.indeterminate = n > 0 && n < boxes.length;
		count.textContent = n ? count.dataset.some.replace("%s", n) : none;
	};
	all.parentElement.hidden = false;
	all.addEventListener("change", () => {
		for (const box of boxes) box.checked = all.checked;
		show();
	});
	form.addEventListener("change", show);
	addEventListener("pageshow", show); // the browser may have kept ticks
	show();
})();

// A menu closes when something else is clicked, and with Escape.
document.addEventListener("click", (e) => {
	for (const menu of document.querySelectorAll("details.menu[open]")) {
		if (!menu.contains(e.target)) menu.open = false;
	}
});
document.addEventListener("keydown", (e) => {
	const menu = e.key === "Escape" && document.querySelector("details.menu[open]");
	if (!menu) return;
	menu.open = false;
	menu.querySelector("summary").focus();
});

// A page that changes by itself: say aloud what changed, and say when it is out of date.
(() => {
	const live = document.getElementById("live");
	const offline = document.getElementById("offline");
	if (!live) return;
	let inMain = false;
	let said = document.querySelector("[data-live]")?.textContent;
	document.addEventListener("htmx:beforeSwap", (e) => {
		const page = e.detail.xhr.responseText;
		if (e.detail.shouldSwap && !page.includes('id="main"')) { // somebody else's page: a login
			e.detail.shouldSwap = false;
			location.reload();
		}
		inMain = document.activeElement.closest("#main") !== null; // what had the focus may be gone afterwards
	});
	document.addEventListener("htmx:afterSwap", () => {
		offline.hidden = true;
		if (inMain && document.activeElement === document.body) document.getElementById("main").focus({preventScroll: true});
		const now = document.querySelector("[data-live]")?.textContent;
		if (now && now !== said) live.textContent = said = now;
	});
	document.addEventListener("htmx:sendError", () => { offline.hidden = false; });
	document.addEventListener("htmx:responseError", (e) => {
		if (e.detail.xhr.status === 401 || e.detail.xhr.status === 403) location.reload();
		else offline.hidden = false;
	});
})();
