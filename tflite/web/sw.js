// Without a network: what was loaded before. With one: what is there now, and it is kept.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(self.location.origin)) return;
  event.respondWith(fresh(request));
});

async function fresh(request) {
  const cache = await caches.open("keras-parc");
  // The address may name a model and a picture, of which the page itself knows nothing.
  const key = request.mode === "navigate" ? request.url.split(/[?#]/)[0] : request;
  try {
    const answer = await fetch(request);
    if (answer.status === 200) await cache.put(key, answer.clone());
    return answer;
  } catch (error) {
    const kept = await cache.match(key);
    if (kept) return kept;
    throw error;
  }
}
