// A server of this same program in a process of its own, on a temporary folder that vanishes with it: what the demo
// works on.
#pragma once

#include <sys/types.h>

#include <string>

#include <capstan/base/error.h>
#include <capstan/client/cli/runtime.h>

namespace capstan::cli {

// Destroying it ends the server and removes the folder. Blocks for both.
class DemoServer {
 public:
  // Errors: io and what making folders can answer; a server that does not start within ten seconds is timedOut.
  static Result<std::unique_ptr<DemoServer>> start(Runtime& runtime);
  ~DemoServer() noexcept(false);
  KJ_DISALLOW_COPY(DemoServer);

  std::string path(const std::string& name) const { return folder + "/" + name; }
  std::string socket() const { return path("socket"); }
  std::string root() const { return path("served"); }

 private:
  explicit DemoServer(std::string folder) : folder(std::move(folder)) {}
  const std::string folder;
  pid_t process = -1;

  Status launch();
  Status waitUntilReady(Runtime& runtime);
};

}  // namespace capstan::cli
