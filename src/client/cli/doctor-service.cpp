#include <capstan/client/cli/doctor-service.h>

#include <pwd.h>
#include <unistd.h>

#include <fstream>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

std::string procFile(pid_t process, const char* name) {
  std::ifstream file("/proc/" + std::to_string(process) + "/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool endsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

bool isCapstanHere(pid_t process) { return procFile(process, "comm") == "capstan\n"; }

std::optional<Unit> unitIn(std::string_view cgroup) {
  // One hierarchy is "0::/path"; older systems have more, of which systemd's own is "1:name=systemd:/path". A container
  // may see both, and only one of them tells the unit.
  for (std::string_view hierarchy : {":name=systemd:/", "::/"}) {
    size_t at = cgroup.rfind(hierarchy);
    if (at == std::string_view::npos) continue;
    std::string_view path = cgroup.substr(cgroup.find('/', at));
    path = path.substr(0, path.find('\n'));
    std::string_view last = path.substr(path.rfind('/') + 1);
    if (endsWith(last, ".service")) return Unit{std::string(last), path.find("/user@") != std::string_view::npos};
  }
  return std::nullopt;
}

Finding judgeUnit(const Unit& unit, bool lingers, const std::string& user) {
  const std::string CHECK = "service";
  std::string message = "the server runs as " + escapeForTerminal(unit.name);
  if (unit.ofUser && !lingers) {
    return Finding::warning(CHECK, message + " of a user, which ends when the user logs out",
                            "run: loginctl enable-linger " + escapeForTerminal(user));
  }
  return Finding::ok(CHECK, message + (unit.ofUser ? " of a user, also while nobody is logged in" : ""));
}

std::optional<Unit> unitOf(pid_t process) { return unitIn(procFile(process, "cgroup")); }

std::optional<Finding> lookAtUnit(pid_t process) {
  auto unit = unitOf(process);
  if (!unit) return std::nullopt;
  const passwd* user = getpwuid(getuid());
  std::string name = user == nullptr ? std::to_string(getuid()) : user->pw_name;
  return judgeUnit(*unit, access(("/var/lib/systemd/linger/" + name).c_str(), F_OK) == 0, name);
}

}  // namespace capstan::cli
