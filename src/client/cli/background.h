// Commands of the shell that run in the background: their numbers, how they are, and waiting for them.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include <kj/async.h>

#include <capstan/client/cli/context.h>

namespace capstan::cli {

// Belongs to one event loop. Destroying it ends what still runs.
class Background {
 public:
  // Called when a command has ended, with its number, status and text.
  std::function<void(unsigned id, int status, const std::string& text)> onEnd;

  // Starts a command; answers its number, which is never used again.
  unsigned start(kj::Own<Context> context, const Action& action, std::string text);

  bool knows(unsigned id) const { return jobs.count(id) != 0; }
  size_t running() const;

  // A line (or JSON object) for each command; those that have ended are forgotten then.
  void list(Output& output);

  // The exit status of one, or of all together, once they have ended; forgets them. Nothing for an unknown number.
  kj::Promise<std::optional<int>> wait(unsigned id);
  kj::Promise<int> waitForAll();

 private:
  struct Job {
    kj::Own<Context> context;
    std::string text;
    uint64_t begin = 0;
    std::optional<int> status;
    kj::Maybe<kj::ForkedPromise<void>> end;  // last: it is to go first, as the command uses the context
  };
  std::map<unsigned, Job> jobs;
  unsigned lastId = 0;

  kj::Promise<std::vector<int>> collect(std::vector<unsigned> ids);
};

// "running", "done", "failed (status 9)".
std::string stateText(std::optional<int> status);

}  // namespace capstan::cli
