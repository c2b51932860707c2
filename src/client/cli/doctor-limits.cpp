#include <capstan/client/cli/doctor-limits.h>

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include <capstan/base/watch-source.h>

namespace capstan::cli {

namespace {

// Below it hardly anything works: event loops, the storage and the listeners have some dozens between them.
constexpr uint64_t FEWEST_OPEN_FILES = 256;
// Two for each of the 1,024 connections that a server accepts, and some that are open for long.
constexpr uint64_t COMFORTABLE_OPEN_FILES = 4096;
constexpr uint64_t FEWEST_WATCHES = 8192;

std::optional<uint64_t> numberIn(std::string_view text) {
  uint64_t number = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc() && end != text.data() ? std::optional(number) : std::nullopt;
}

std::optional<uint64_t> numberInFile(const char* path) {
  std::ifstream file(path);
  std::string line;
  return std::getline(file, line) ? numberIn(line) : std::nullopt;
}

// The inotify watches behind one descriptor: a line of its fdinfo for each.
uint64_t watchesIn(const std::filesystem::path& fdinfo) {
  std::ifstream file(fdinfo);
  uint64_t count = 0;
  for (std::string line; std::getline(file, line);) count += line.compare(0, 8, "inotify ") == 0;
  return count;
}

void countProcess(const std::filesystem::path& process, InotifyUse& use) {
  std::error_code refused;
  for (std::filesystem::directory_iterator fd(process / "fd", refused), end; !refused && fd != end;
       fd.increment(refused)) {
    std::error_code gone;
    if (std::filesystem::read_symlink(fd->path(), gone) != "anon_inode:inotify" || gone) continue;
    ++use.instances;
    use.watches += watchesIn(process / "fdinfo" / fd->path().filename());
  }
}

// Nothing where the kernel does not tell its limits.
std::optional<InotifyUse> inotifyUse() {
  auto instances = numberInFile("/proc/sys/fs/inotify/max_user_instances");
  auto watches = numberInFile("/proc/sys/fs/inotify/max_user_watches");
  if (!instances || !watches) return std::nullopt;
  InotifyUse use{.instances = 0, .maxInstances = *instances, .watches = 0, .maxWatches = *watches};
  std::error_code refused;
  for (std::filesystem::directory_iterator process("/proc", refused), end; !refused && process != end;
       process.increment(refused)) {
    struct stat status;
    bool isProcess = numberIn(process->path().filename().string()).has_value();
    if (isProcess && stat(process->path().c_str(), &status) == 0 && status.st_uid == geteuid())
      countProcess(process->path(), use);
  }
  return use;
}

std::string of(uint64_t part, uint64_t whole, const char* what) {
  return std::to_string(part) + " of " + std::to_string(whole) + " " + what;
}

}  // namespace

Finding judgeOpenFiles(uint64_t most, std::string_view whose) {
  const std::string CHECK = "open-files";
  std::string message = std::string(whose) + " may have " +
                        (most == UINT64_MAX ? std::string("any number of") : std::to_string(most)) + " files open";
  if (most >= COMFORTABLE_OPEN_FILES) return Finding::ok(CHECK, message);
  std::string advice = "raise the limit to " + std::to_string(COMFORTABLE_OPEN_FILES) +
                       " or more: ulimit -Hn, or LimitNOFILE= in the unit";
  if (most >= FEWEST_OPEN_FILES) {
    return Finding::warning(CHECK, message + ", which is little for many connections", advice);
  }
  return Finding::problem(CHECK, message + ", which is too few to serve", advice);
}

std::optional<uint64_t> hardLimitIn(std::string_view limits) {
  constexpr std::string_view NAME = "Max open files", SPACE = " \t";
  size_t at = limits.find(NAME);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view line = limits.substr(at + NAME.size());
  line = line.substr(0, line.find('\n'));
  for (int column = 0; column < 2; ++column) {  // the soft limit, then the hard one
    size_t begin = line.find_first_not_of(SPACE);
    if (begin == std::string_view::npos) return std::nullopt;
    line.remove_prefix(begin);
    if (column == 0) line.remove_prefix(std::min(line.find_first_of(SPACE), line.size()));
  }
  return line.substr(0, line.find_first_of(SPACE)) == "unlimited" ? UINT64_MAX : numberIn(line);
}

Finding lookAtOpenFiles(std::optional<pid_t> server) {
  if (server) {
    std::ifstream file("/proc/" + std::to_string(*server) + "/limits");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (auto limit = hardLimitIn(text)) return judgeOpenFiles(*limit, "the server");
  }
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return judgeOpenFiles(limit.rlim_max == RLIM_INFINITY ? UINT64_MAX : uint64_t(limit.rlim_max),
                        "a server that is started here");
}

Finding judgeInotify(const InotifyUse& use) {
  const std::string CHECK = "watching";
  std::string message = "changes by other programs are noticed by inotify; this user has " +
                        of(use.instances, use.maxInstances, "instances and ") +
                        of(use.watches, use.maxWatches, "watches (one for each folder)");
  auto set = [](const char* name, uint64_t value) {
    return std::string("as root: sysctl fs.inotify.") + name + "=" + std::to_string(value) +
           ", and the same in a file in /etc/sysctl.d";
  };
  constexpr uint64_t MANY_INSTANCES = 1024, MANY_WATCHES = 1 << 20;
  if (use.instances >= use.maxInstances) {
    return Finding::problem(CHECK, message + ": no further program can watch",
                            set("max_user_instances", std::max(MANY_INSTANCES, 2 * use.maxInstances)));
  }
  std::string moreWatches = set("max_user_watches", std::max(MANY_WATCHES, 2 * use.maxWatches));
  if (use.watches >= use.maxWatches) {
    return Finding::problem(CHECK, message + ": folders that are made now are looked at every 4 seconds only",
                            moreWatches);
  }
  if (use.maxWatches - use.watches < std::max(FEWEST_WATCHES, use.maxWatches / 10)) {
    return Finding::warning(CHECK, message + ": few are left", moreWatches);
  }
  if (use.maxInstances - use.instances <= use.maxInstances / 10) {
    return Finding::warning(CHECK, message + ": few instances are left",
                            set("max_user_instances", std::max(MANY_INSTANCES, 2 * use.maxInstances)));
  }
  return Finding::ok(CHECK, message);
}

Finding lookAtWatching(const std::optional<std::string>& root) {
  TreeWatcher::Options options;
  options.folder = root.value_or("/");
  if (openFanotify(options).ok()) {
    return Finding::ok("watching", "changes by other programs are noticed by fanotify, whatever the number of folders");
  }
  auto use = inotifyUse();
  if (use) return judgeInotify(*use);
  return Finding::warning("watching", "the kernel tells nothing of inotify",
                          "changes by other programs may be noticed only every 4 seconds; use a kernel with inotify");
}

}  // namespace capstan::cli
