/** The page's own IndexedDB: a few records, no library. */
const NAME = "entobot";
const STORES = ["device", "outbox", "drafts", "cache"] as const;
export type Store = (typeof STORES)[number];

let opening: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      for (const name of STORES) request.result.createObjectStore(name);
    };
    request.onsuccess = () => {
      // Another tab that upgrades or deletes must not wait for this one.
      request.result.onversionchange = () => {
        request.result.close();
        opening = null;
      };
      resolve(request.result);
    };
    request.onerror = () => reject(request.error ?? new Error("IndexedDB"));
  });
  return opening;
}

async function run<T>(store: Store, mode: IDBTransactionMode, work: (on: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode, { durability: mode === "readwrite" ? "strict" : "default" });
    const request = work(transaction.objectStore(store));
    // Said outright, because a page that is going away will not be asked for more requests.
    if (mode === "readwrite") transaction.commit();
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? new Error("IndexedDB"));
  });
}

export async function load<T>(store: Store, key: string): Promise<T | undefined> {
  return (await run(store, "readonly", (on) => on.get(key))) as T | undefined;
}

export async function save(store: Store, key: string, value: unknown): Promise<void> {
  await run(store, "readwrite", (on) => on.put(value, key));
}

export async function remove(store: Store, key: string): Promise<void> {
  await run(store, "readwrite", (on) => on.delete(key));
}

export async function loadAll<T>(store: Store): Promise<T[]> {
  return (await run(store, "readonly", (on) => on.getAll())) as T[];
}

/** Forgets this device: key, tokens, messages, drafts. */
export async function wipe(): Promise<void> {
  for (const name of STORES) await run(name, "readwrite", (on) => on.clear());
  await globalThis.caches?.delete("shared"); // what another app shared and nobody has placed yet
}
