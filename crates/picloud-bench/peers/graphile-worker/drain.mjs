// Works off a backlog of trivial jobs and says how long it took: `node drain.mjs URL JOBS CONCURRENCY`.
import { run, quickAddJob, runMigrations } from "graphile-worker";
import pg from "pg";

const [connectionString, jobs, concurrency] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString, max: Number(concurrency) + 2 });
await runMigrations({ pgPool: pool });
await pool.query(
  "select graphile_worker.add_job('nothing', json_build_object('n', i)) from generate_series(1, $1::int) i",
  [jobs],
);
await pool.query("vacuum analyze");

let left = Number(jobs);
let finished;
const done = new Promise((resolve) => (finished = resolve));
const began = process.hrtime.bigint();
const runner = await run({
  pgPool: pool,
  concurrency: Number(concurrency),
  noHandleSignals: true,
  taskList: {
    nothing: async () => {
      left -= 1;
      if (left === 0) finished();
    },
  },
});
await done;
// Done is when nothing is left in the table.
while (Number((await pool.query("select count(*) from graphile_worker.jobs")).rows[0].count) > 0) {
  await new Promise((resolve) => setTimeout(resolve, 5));
}
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
console.log(JSON.stringify({ seconds }));
await runner.stop();
await pool.end();
