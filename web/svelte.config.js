import { vitePreprocess } from "@sveltejs/vite-plugin-svelte";

export default {
  preprocess: vitePreprocess({ script: false }),
  // Nothing of Svelte 4's ways, neither in the sources nor in what is shipped.
  compilerOptions: { runes: true },
};
