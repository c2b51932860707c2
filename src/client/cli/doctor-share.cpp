#include <capstan/client/cli/doctor-share.h>

#include <string>

#include <capstan/base/text.h>
#include <capstan/client/cli/entry-format.h>

namespace capstan::cli {

namespace {

constexpr const char* CHECK = "share";
constexpr const char* ASK = "ask whoever gave you the invite for a new one";
constexpr int64_t DAY = int64_t(86'400) * 1'000'000'000;
constexpr int64_t SOON = 7 * DAY;

std::string rightsOf(const client::Share& share) {
  return std::string(share.write ? "read-write" : "read-only") + (share.compute ? "" : ", no compute");
}

std::string endOf(const client::Share& share, int64_t now) {
  if (share.expires == 0) return "no end";
  int64_t left = share.expires - now, days = (left + DAY / 2) / DAY;
  std::string in = left < DAY ? "less than a day" : days == 1 ? "1 day" : std::to_string(days) + " days";
  return "until " + localTime(share.expires) + ", in " + in;
}

// This login is counted already.
std::string usesOf(const client::Share& share) {
  if (share.uses == 0) return {};
  uint64_t left = share.uses > share.used ? share.uses - share.used : 0;
  return "; this look took one of its " + std::to_string(share.uses) + (share.uses == 1 ? " login, " : " logins, ") +
         (left == 0 ? "the last" : std::to_string(left) + (left == 1 ? " is left" : " are left"));
}

}  // namespace

Finding judgeShare(const client::Share& share, int64_t now) {
  std::string name = share.label.empty() ? share.id : "\"" + share.label + "\"";
  std::string message =
      "the share " + escapeForTerminal(name) + " is " + rightsOf(share) + ", " + endOf(share, now) + usesOf(share);
  bool endsSoon = share.expires != 0 && share.expires - now < SOON;
  bool isUsedUp = share.uses != 0 && share.used >= share.uses;
  return endsSoon || isUsedUp ? Finding::warning(CHECK, message, ASK) : Finding::ok(CHECK, message);
}

Finding judgeEndedShare(const Error& error) {
  return Finding::problem(CHECK, error.message.substr(0, error.message.find(';')), ASK);
}

}  // namespace capstan::cli
