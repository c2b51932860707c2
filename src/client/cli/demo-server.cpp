#include <capstan/client/cli/demo-server.h>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <capstan/base/file.h>

namespace capstan::cli {

namespace {

constexpr auto BETWEEN_LOOKS = 5 * kj::MILLISECONDS;
constexpr unsigned LOOKS = 2000;

// In the new process, where only what is async-signal-safe may be called.
[[noreturn]] void becomeServer(const char* const* arguments, int log, pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  // Whatever becomes of the demo, its server does not stay behind.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv("/proc/self/exe", const_cast<char* const*>(arguments));
  _exit(127);
}

}  // namespace

Result<std::unique_ptr<DemoServer>> DemoServer::start(Runtime& runtime) {
  const char* temporary = getenv("TMPDIR");
  std::string pattern =
      std::string(temporary == nullptr || *temporary == '\0' ? "/tmp" : temporary) + "/capstan-demo-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) return errorFromErrno(errno, "cannot make a temporary folder", pattern);
  std::unique_ptr<DemoServer> server(new DemoServer(pattern));
  for (auto& name : {"served", "here"}) {
    if (Status made = makeDirectories(server->path(name)); !made.ok()) return made.error();
  }
  if (Status launched = server->launch(); !launched.ok()) return launched.error();
  if (Status ready = server->waitUntilReady(runtime); !ready.ok()) return ready.error();
  return server;
}

Status DemoServer::launch() {
  std::string listen = "unix:" + socket(), state = path("state"), ready = path("ready"), served = root();
  const char* arguments[] = {"capstan", "serve",       served.c_str(), "--listen",    listen.c_str(),
                             "--state", state.c_str(), "--ready-file", ready.c_str(), nullptr};
  int log = open(path("server.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) return errorFromErrno(errno, "cannot make", path("server.log"));
  kj::AutoCloseFd owner(log);
  pid_t parent = getpid();
  process = fork();
  if (process < 0) return errorFromErrno(errno, "cannot start a server");
  if (process == 0) becomeServer(arguments, log, parent);
  return okStatus();
}

Status DemoServer::waitUntilReady(Runtime& runtime) {
  for (unsigned i = 0; i < LOOKS; ++i) {
    struct stat status;
    if (stat(path("ready").c_str(), &status) == 0 && status.st_size > 0) return okStatus();
    int result = 0;
    if (waitpid(process, &result, WNOHANG) == process) {
      process = -1;
      auto log = readFile(path("server.log"));
      return Error{
          ErrorCode::IO, "the demo's server ended at once: " + (log.ok() ? *log : std::string("no word of why")), {}};
    }
    runtime.io.provider->getTimer().afterDelay(BETWEEN_LOOKS).wait(runtime.io.waitScope);
  }
  return Error{ErrorCode::TIMED_OUT, "the demo's server did not start within ten seconds", {}};
}

DemoServer::~DemoServer() noexcept(false) {
  if (process > 0) {
    kill(process, SIGTERM);
    waitpid(process, nullptr, 0);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

}  // namespace capstan::cli
