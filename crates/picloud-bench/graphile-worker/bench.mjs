// How fast graphile-worker works a backlog off, in the database that the PG* variables name: as it comes,
// and with a local queue and completions in batches. Prints JSON: jobs per second of both.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const jobs = Number(process.argv[2]);
// As many as its own performance test runs.
const concurrentJobs = 24;
// What the server has left beside PiCloud; graphile-worker by itself would take ten.
const pool = new pg.Pool({ max: 16 });
pool.on("error", () => {});
pool.on("connect", (client) => client.on("error", () => {}));
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();

async function drain(options) {
  await pool.query("truncate graphile_worker._private_jobs");
  await pool.query(
    `select count(*) from graphile_worker.add_jobs(
       (select array_agg(('job', json_build_object('id', i), null, null, null, null, null, null)
                         ::graphile_worker.job_spec)
        from generate_series(1, $1::int) i))`,
    [jobs],
  );
  let done = 0;
  let tell;
  const finished = new Promise((resolve) => (tell = resolve));
  const taskList = {
    job: () => {
      if (++done === jobs) tell(performance.now());
    },
  };
  const began = performance.now();
  const runner = await run({
    pgPool: pool,
    logger,
    taskList,
    noHandleSignals: true,
    preset: { worker: { concurrentJobs, ...options } },
  });
  const ended = await finished;
  await runner.stop();
  return (jobs * 1000) / (ended - began);
}

const plain = await drain({});
const tuned = await drain({
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
});
await utils.release();
await pool.end();
console.log(JSON.stringify({ plain, tuned }));
