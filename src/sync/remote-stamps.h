// Which stamps have become which by what was done since the last look: a file that was renamed has another version
// afterwards, and operations that come later were planned with the old one.
#pragma once

#include <string>
#include <unordered_map>

namespace capstan::sync {

class RemoteStamps {
 public:
  void replaced(const std::string& old, const std::string& now) {
    if (!old.empty() && old != now) next[old] = now;
  }
  // What has become of a stamp.
  std::string current(std::string stamp) const {
    // As many steps as there are replacements at most: a version that came back would go round for ever.
    for (size_t i = 0; i <= next.size(); ++i) {
      auto found = next.find(stamp);
      if (found == next.end()) break;
      stamp = found->second;
    }
    return stamp;
  }
  void clear() { next.clear(); }

 private:
  std::unordered_map<std::string, std::string> next;
};

}  // namespace capstan::sync
