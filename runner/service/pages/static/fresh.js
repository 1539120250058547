/**
 * Parts of pages, loaded again as documents: no string ever becomes markup here.
 */

const WITHIN_MS = 10_000;
const EVERY_MS = 2000;

/**
 * Return a page of this service as a document, null if it cannot be had now.  Who is signed out is
 * led to where one signs in.
 */
export function loaded(address) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // `fetch` cannot give a document
    request.open("GET", address);
    request.responseType = "document";
    request.timeout = WITHIN_MS;
    request.onloadend = () => {
      if (request.status === 401) location.reload();
      resolve(request.status === 200 ? request.response : null);
    };
    request.send();
  });
}

/** Give an element its new form, if that differs, and leave the focus where it is. */
export function renew(element, fresh) {
  if (element.isEqualNode(fresh)) return;
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  element.replaceChildren(...fresh.childNodes);
  for (const { name } of [...element.attributes]) element.removeAttribute(name);
  for (const { name, value } of fresh.attributes) element.setAttribute(name, value);
  if (focused === null || focused.isConnected) return;
  const same = [...element.querySelectorAll(focused.localName)].find((each) =>
    each.isEqualNode(focused),
  );
  (same ?? document.getElementById("main")).focus({ preventScroll: true });
}

/** Keep the elements with the attribute `data-live` as the service has them now. */
export async function keepFresh() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    if (document.hidden) continue;
    const page = await loaded(location.href);
    if (page === null) continue; // it is being restarted, say
    for (const each of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(each.id);
      if (fresh !== null) renew(each, fresh);
    }
  }
}
