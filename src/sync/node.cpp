#include <capstan/sync/node.h>

namespace capstan::sync {

std::string_view nameOf(Mode mode) {
  switch (mode) {
    case Mode::PUSH: return "push";
    case Mode::PULL: return "pull";
    case Mode::TWO_WAY: return "two-way";
  }
  return "unknown";
}

std::optional<Mode> modeByName(std::string_view name) {
  for (Mode mode : {Mode::PUSH, Mode::PULL, Mode::TWO_WAY}) {
    if (name == nameOf(mode)) return mode;
  }
  return std::nullopt;
}

bool isAsAgreed(const Node& now, const Node& agreed) {
  if (now.type != agreed.type) return false;
  if (now.type == EntryType::DIRECTORY) {
    bool identitiesKnown = now.identity != 0 && agreed.identity != 0;
    return now.mode == agreed.mode && (!identitiesKnown || now.identity == agreed.identity);
  }
  return now.stamp == agreed.stamp && (now.type != EntryType::FILE || agreed.settled);
}

}  // namespace capstan::sync
