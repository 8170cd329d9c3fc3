// Prints how much memory the guest has after its start-up, and how many bytes of pages are not all zero: the memory
// image that every slot starts from. Needs the path of a module as it is built.
import { readFile } from "node:fs/promises";
import process from "node:process";

const PAGE_BYTES = 4096;
const stub = () => 0;
const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]), {
  picloud: { host_call: stub, clock: () => 0n, entropy: stub },
});
instance.exports.picloud_init();
const memory = new Uint8Array(instance.exports.memory.buffer);
let written = 0;
for (let start = 0; start < memory.length; start += PAGE_BYTES) {
  written += memory.subarray(start, start + PAGE_BYTES).some((byte) => byte !== 0) ? PAGE_BYTES : 0;
}
console.log(memory.length, written);
