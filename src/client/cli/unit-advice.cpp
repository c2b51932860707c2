#include <capstan/client/cli/unit-advice.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// "capstan", of "capstan.service".
std::string nameOf(const Unit& unit) { return escapeForTerminal(unit.name.substr(0, unit.name.rfind('.'))); }

}  // namespace

bool runsAsUnit() { return getenv("NOTIFY_SOCKET") != nullptr; }

Error withUnitSettings(Error error) {
  if (contains(error.message, strerror(EAFNOSUPPORT))) {
    error.message +=
        "; that is so where the unit of a service lets it have no sockets but those that it is given: name the address "
        "by ListenStream= in the socket's unit (systemctl edit capstan.socket), or set RestrictAddressFamilies=AF_UNIX "
        "AF_INET AF_INET6 and PrivateNetwork=no in the service's (systemctl edit capstan)";
  } else if (contains(error.message, errorFromErrno(EROFS, "", "").message)) {
    error.message +=
        "; for a service, that is so unless its unit names the folder by ReadWritePaths=, with ProtectHome=no below "
        "/home (systemctl edit capstan)";
  }
  return error;
}

std::string howToBeReached(const std::optional<Unit>& unit) {
  // Other services that start a server know themselves how.
  if (!unit || !unit->name.starts_with("capstan")) return "start it with --listen HOST:PORT";
  std::string manager = unit->ofUser ? "systemctl --user" : "systemctl", socket = nameOf(*unit) + ".socket";
  return "add ListenStream=HOST:PORT below [Socket] (" + manager + " edit " + socket + "; " + manager + " restart " +
         socket + ")";
}

}  // namespace capstan::cli
