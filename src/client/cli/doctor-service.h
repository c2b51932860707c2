// What `capstan doctor` looks at of a server on this machine: its process, and the systemd unit that it runs as.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include <capstan/client/cli/doctor-finding.h>

namespace capstan::cli {

// Whether the process that a server told of is one of ours on this machine, and not another's number elsewhere.
bool isCapstanHere(pid_t process);

struct Unit {
  std::string name;     // "capstan.service"
  bool ofUser = false;  // run by a user's manager, not the machine's
};
// The service in the text of /proc/PID/cgroup; nothing for what runs in a terminal or a container.
std::optional<Unit> unitIn(std::string_view cgroup);

// `lingers`: whether this user's manager runs without anybody being logged in.
Finding judgeUnit(const Unit& unit, bool lingers, const std::string& user);

// The service that a process of this machine belongs to; nothing where it is none's.
std::optional<Unit> unitOf(pid_t process);
// Nothing where the process is no systemd service's.
std::optional<Finding> lookAtUnit(pid_t process);

}  // namespace capstan::cli
