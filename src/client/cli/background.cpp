#include <capstan/client/cli/background.h>

#include <kj/debug.h>

#include <capstan/base/text.h>
#include <capstan/client/cli/json.h>

namespace capstan::cli {

namespace {

constexpr unsigned PROGRESS_COLUMNS = 60;

}  // namespace

std::string stateText(std::optional<int> status) {
  if (!status) return "running";
  return *status == DONE ? "done" : "failed (status " + std::to_string(*status) + ")";
}

unsigned Background::start(kj::Own<Context> context, const Action& action, std::string text) {
  unsigned id = ++lastId;
  Job& job = jobs[id];
  job.text = std::move(text);
  job.context = kj::mv(context);
  job.begin = steadyNow();
  // A forked promise runs whether somebody waits for it or not. `job` stays where it is in the map, and owns the
  // promise.
  job.end = runAction(action, *job.context)
                .then([this, &job, id](int status) {
                  job.status = status;
                  if (onEnd) onEnd(id, status, job.text);
                })
                .fork();
  return id;
}

size_t Background::running() const {
  size_t count = 0;
  for (auto& [id, job] : jobs) count += !job.status;
  return count;
}

void Background::list(Output& output) {
  for (auto iterator = jobs.begin(); iterator != jobs.end();) {
    auto& [id, job] = *iterator;
    ProgressState state = job.context->meter.state();
    std::string time = formatDuration(steadyNow() - job.begin);
    if (output.json()) {
      JsonWriter json;
      json.beginObject().field("id", id).field("state", stateText(job.status)).key("status");
      if (job.status) {
        json.value(*job.status);
      } else {
        json.null();
      }
      json.field("command", job.text).field("bytes", state.bytesDone).endObject();
      output.line(json.text());
    } else {
      std::string line = "[" + std::to_string(id) + "] " + stateText(job.status);
      if (!job.status) {
        line += " for " + time;
        state.files = 0;
        state.current.clear();
        if (state.bytesDone > 0) line += ", " + renderProgress(state, PROGRESS_COLUMNS);
      }
      output.line(line + "  " + output.name(job.text));
    }
    iterator = job.status ? jobs.erase(iterator) : std::next(iterator);
  }
}

kj::Promise<std::vector<int>> Background::collect(std::vector<unsigned> ids) {
  auto ends = kj::heapArrayBuilder<kj::Promise<void>>(ids.size());
  for (unsigned id : ids) ends.add(KJ_ASSERT_NONNULL(jobs.at(id).end).addBranch());
  return kj::joinPromises(ends.finish()).then([this, ids]() {
    std::vector<int> statuses;
    for (unsigned id : ids) {
      auto found = jobs.find(id);
      if (found == jobs.end()) continue;
      statuses.push_back(found->second.status.value_or(FAILED));
      jobs.erase(found);
    }
    return statuses;
  });
}

kj::Promise<std::optional<int>> Background::wait(unsigned id) {
  if (!knows(id)) return std::optional<int>();
  return collect({id}).then([](std::vector<int> statuses) { return std::optional(exitStatusOfAll(statuses)); });
}

kj::Promise<int> Background::waitForAll() {
  std::vector<unsigned> ids;
  for (auto& [id, job] : jobs) ids.push_back(id);
  return collect(ids).then([](std::vector<int> statuses) { return exitStatusOfAll(statuses); });
}

}  // namespace capstan::cli
