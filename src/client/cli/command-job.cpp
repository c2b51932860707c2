// `capstan job`: what was started with --async, by its id: how it is, waiting for it, its result, its end.
#include <algorithm>

#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/compute-output.h>
#include <capstan/client/cli/job-format.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

// A job that is not kept any more is not found, whatever the exact code.
int failJob(Context& context, const Error& error) {
  int status = context.output.fail(error);
  return error.code == ErrorCode::EXPIRED ? NOT_FOUND : status;
}

int printStatus(Context& context, const Result<client::JobStatus>& job) {
  if (!job.ok()) return failJob(context, job.error());
  if (context.output.json()) {
    context.output.line(jobAsJson(*job));
  } else {
    context.output.raw(jobBlock(*job));
  }
  return DONE;
}

kj::Promise<int> list(Context& context) {
  auto count = std::make_shared<uint64_t>(0);
  auto print = [&context, count](client::JobStatus&& job) {
    if (context.output.json()) {
      context.output.raw(*count == 0 ? "[" : ",\n ");
      context.output.raw(jobAsJson(job));
    } else {
      context.output.line(jobLine(job));
    }
    ++*count;
  };
  return context.client().listJobs(print).then([&context, count](Status listed) {
    if (!listed.ok()) return context.output.fail(listed.error());
    if (context.output.json()) context.output.line(*count == 0 ? "[]" : "]");
    return DONE;
  });
}

// What the end of a job means for whoever waited for it.
int endOf(Context& context, const Result<client::JobStatus>& job) {
  if (!job.ok()) return failJob(context, job.error());
  if (context.output.json()) {
    context.output.line(jobAsJson(*job));
  } else if (context.output.verbose()) {
    context.output.line(stateOf(*job));
  }
  if (job->state == client::JobState::CANCELLED)
    return context.output.fail({ErrorCode::CANCELLED, "the job " + escapeForTerminal(job->id) + " was cancelled", {}});
  return job->error ? context.output.fail(*job->error) : DONE;
}

// Waits with its progress on the terminal.
kj::Promise<Result<client::JobStatus>> watch(Context& context, const std::string& id) {
  auto meter = std::make_shared<WorkMeter>(context.meter);
  auto watching = context.client().watchJob(id, [meter](const client::JobStatus& job) {
    meter->report(std::string(name(job.kind)) + ", " + std::string(name(job.state)), job.workDone, job.workTotal);
  });
  return context.withProgress(kj::mv(watching));
}

kj::Promise<int> wait(Context& context) {
  const std::string& id = context.operands[1];
  context.whenCutOff = "; the job goes on: capstan job wait " + escapeForTerminal(id) + " waits for it again";
  if (!context.showsProgress()) {
    return context.client().waitForJob(id).then(
        [&context](Result<client::JobStatus> job) { return endOf(context, job); });
  }
  return watch(context, id).then([&context](Result<client::JobStatus> job) { return endOf(context, job); });
}

kj::Promise<int> printResult(Context& context, const std::string& id) {
  auto printer = kj::heap<ValuePrinter>(context);
  ValuePrinter& p = *printer;
  std::function<void(const client::ValueInfo&)> onInfo;
  if (context.output.json()) onInfo = [&p](const client::ValueInfo& info) { p.begin(info); };
  return context.client()
      .jobResultTo(id, p, Encoding::UNSET, onInfo)
      .then([&context, &p](Result<client::ValueInfo> info) -> kj::Promise<int> {
        if (!info.ok()) {
          int status = failJob(context, info.error());
          if (info.error().code == ErrorCode::UNSUPPORTED && !info.error().path.empty())
            context.output.hint("capstan cat " + escapeForTerminal(info.error().path) + " prints it");
          return status;
        }
        return p.end().then([]() { return DONE; });
      })
      .attach(kj::mv(printer));
}

kj::Promise<int> takeResult(Context& context, const std::string& id, const ResultOptions& options) {
  if (!options.isStored()) return printResult(context, id);
  return context.client()
      .jobResultInto(id, remotePath(*options.output), settingsOfResult())
      .then([&context](Result<Entry> entry) {
        return entry.ok() ? reportStored(context, entry) : failJob(context, entry.error());
      });
}

kj::Promise<int> result(Context& context, std::shared_ptr<ResultOptions> options) {
  const std::string& id = context.operands[1];
  context.whenCutOff = "; the job goes on: capstan job wait " + escapeForTerminal(id) + " waits for it";
  if (!context.showsProgress()) return takeResult(context, id, *options);
  return watch(context, id).then([&context, &id, options](Result<client::JobStatus> job) -> kj::Promise<int> {
    if (!job.ok()) return failJob(context, job.error());
    context.whenCutOff.clear();
    return takeResult(context, id, *options);
  });
}

kj::Promise<int> cancel(Context& context) {
  return context.client().cancelJob(context.operands[1]).then([&context](Result<client::JobStatus> job) {
    if (!job.ok()) return failJob(context, job.error());
    if (context.output.json() || context.output.verbose()) return printStatus(context, job);
    return DONE;
  });
}

kj::Promise<int> forget(Context& context) {
  return context.client().forgetJob(context.operands[1]).then([&context](Status status) {
    return status.ok() ? DONE : failJob(context, status.error());
  });
}

kj::Promise<int> job(Context& context, std::shared_ptr<ResultOptions> options) {
  const std::string& verb = context.operands[0];
  bool known =
      verb == "list" || verb == "status" || verb == "wait" || verb == "result" || verb == "cancel" || verb == "forget";
  if (!known) {
    return context.usage("there is no job " + escapeForTerminal(verb) +
                         "; it is list, status, wait, result, cancel or forget");
  }
  if (options->output && verb != "result") return context.usage("-o is for job result");
  if (auto problem = options->problem()) return context.usage(*problem);
  if (verb == "list") {
    if (context.operands.size() > 1) return context.usage("list takes no ID; job status ID tells of one job");
    return list(context);
  }
  if (context.operands.size() < 2 || context.operands[1].empty())
    return context.usage(verb + " needs the ID of a job; capstan job list shows them");
  if (verb == "wait") return wait(context);
  if (verb == "result") return result(context, options);
  if (verb == "cancel") return cancel(context);
  if (verb == "forget") return forget(context);
  return context.client().jobStatus(context.operands[1]).then([&context](Result<client::JobStatus> status) {
    return printStatus(context, status);
  });
}

}  // namespace

Command jobCommand() {
  return {"job",
          "list|status|wait|result|cancel|forget [ID]",
          "list    one line for each job: id, state, kind, when it was submitted, label\n"
          "status  all about one; the first word is its state: queued, running, done, failed, cancelled\n"
          "wait    until it has ended; the exit status is what the command itself would have had. After --timeout\n"
          "        it is 8, and the job goes on\n"
          "result  what it has computed; waits for it. Results are kept for a day, at most 1,000 jobs and 8 GiB: the\n"
          "        oldest are forgotten first\n"
          "cancel  end it (exit status 4 if it has ended otherwise)\n"
          "forget  remove what has ended, with its result\n"
          "ID      as --async has printed it",
          1,
          2,
          "look after jobs, which were started with --async",
          {{"capstan job list", ""},
           {"id=$(capstan sort --file big.txt --async); capstan job wait $id --timeout 1m", ""},
           {"capstan job result $id | head", "prints it as sort does"},
           {"capstan job result $id -o sorted.txt", "stores it at the server instead"}},
          "capstan sort, add, sum, min, max and count start jobs with --async",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<ResultOptions>();
            table.text("-o,--output", options->output, "REMOTE", "with result: store it as this file");
            return [options](Context& context) { return job(context, options); };
          }};
}

}  // namespace capstan::cli
