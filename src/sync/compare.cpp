#include <capstan/sync/compare.h>

namespace capstan::sync {

const std::string& agreedDigest(const Agreed& agreed) {
  return agreed.local.digest.empty() ? agreed.remote.digest : agreed.local.digest;
}

Change changeOf(const Node& now, const Agreed& agreed, Side side) {
  const Node& before = agreed.on(side);
  if (now.type != before.type) return Change::CONTENT;
  if (now.type == EntryType::SYMLINK) return now.target == before.target ? Change::NONE : Change::CONTENT;
  if (now.type != EntryType::FILE) return now.mode == before.mode ? Change::NONE : Change::METADATA;
  if (now.size != before.size) return Change::CONTENT;
  const std::string& digest = agreedDigest(agreed);
  if (now.size == 0) {
    // There is one empty content only.
  } else if (!now.digest.empty() && !digest.empty()) {
    if (now.digest != digest) return Change::CONTENT;
  } else if (now.mtime != before.mtime || !before.settled) {
    return Change::CONTENT;
  }
  return now.mode == before.mode && now.mtime == before.mtime ? Change::NONE : Change::METADATA;
}

Change changeOf(const std::optional<Node>& now, const std::optional<Agreed>& agreed, Side side) {
  if (!now || !agreed) return now.has_value() == agreed.has_value() ? Change::NONE : Change::CONTENT;
  return changeOf(*now, *agreed, side);
}

bool isSameContent(const Node& a, const Node& b, bool checkContent) {
  if (a.type != b.type) return false;
  if (a.type == EntryType::SYMLINK) return a.target == b.target;
  if (a.type != EntryType::FILE) return true;
  if (a.size != b.size) return false;
  if (!a.digest.empty() && !b.digest.empty()) return a.digest == b.digest;
  return a.size == 0 || (a.mtime == b.mtime && !checkContent);
}

bool isSameMetadata(const Node& local, const Node& remote, const std::optional<Agreed>& agreed) {
  if (local.type == EntryType::SYMLINK) return true;
  bool agreedType = agreed && agreed->local.type == local.type && agreed->remote.type == remote.type;
  bool sameMode = local.mode == remote.mode ||
                  (agreedType && local.mode == agreed->local.mode && remote.mode == agreed->remote.mode);
  if (local.type != EntryType::FILE || !sameMode) return sameMode;
  return local.mtime == remote.mtime ||
         (agreedType && local.mtime == agreed->local.mtime && remote.mtime == agreed->remote.mtime);
}

}  // namespace capstan::sync
