#include <capstan/sync/copies.h>

namespace capstan::sync {
namespace {

// Below that, a copy costs as many bytes on the wire as the content itself.
constexpr uint64_t WORTH_A_COPY_BYTES = 1024;

class CopyFinder {
 public:
  explicit CopyFinder(Draft& draft) : draft(draft) {}

  std::vector<Copy> run();

 private:
  enum class Visit { NOT_YET, UNDER_WAY, DONE };
  struct Candidate {
    Copy copy;
    Side side;
    Visit visit = Visit::NOT_YET;
    size_t nextReader = 0;
  };

  Draft& draft;
  std::vector<Candidate> candidates;
  std::unordered_map<std::string, std::vector<size_t>> readers[2];  // by source: they come before it is overwritten
  std::vector<Copy> ordered;

  std::optional<Copy> copyFor(const std::string& path, const Item& item) const;
  void visit(size_t first);
};

std::optional<Copy> CopyFinder::copyFor(const std::string& path, const Item& item) const {
  const Decision& decision = item.decision;
  if (decision.kind != Decision::Kind::CREATE && decision.kind != Decision::Kind::UPDATE) return std::nullopt;
  const Node& node = *item.on(other(decision.side));
  if (node.type != EntryType::FILE || node.size < WORTH_A_COPY_BYTES || node.digest.empty()) return std::nullopt;
  std::string original = draft.options.findContent(decision.side, node);
  std::string source = original.empty() ? original : draft.placeOf(decision.side, original);
  if (source.empty() || source == path) return std::nullopt;
  std::optional<Node> there;
  if (const Item* known = draft.find(source); known != nullptr) {
    there = known->on(decision.side);
    if (!known->agreed || known->isChangedOn(decision.side)) return std::nullopt;
  } else if (draft.options.agreedAt) {
    if (auto agreed = draft.options.agreedAt(original)) there = agreed->on(decision.side);
  }
  if (!there || there->type != EntryType::FILE || there->size != node.size) return std::nullopt;
  if (!canBeMadeEarly(draft, path, decision.side)) return std::nullopt;
  return Copy{path, source, std::move(*there)};
}

// Everything that reads what this one overwrites comes first. Where that is this one itself, in a ring, it is sent.
void CopyFinder::visit(size_t first) {
  std::vector<size_t> stack = {first};
  while (!stack.empty()) {
    size_t at = stack.back();
    Candidate& candidate = candidates[at];
    candidate.visit = Visit::UNDER_WAY;
    auto overwritten = readers[indexOf(candidate.side)].find(candidate.copy.path);
    bool isWaiting = false;
    if (overwritten != readers[indexOf(candidate.side)].end()) {
      while (candidate.nextReader < overwritten->second.size() && !isWaiting) {
        size_t reader = overwritten->second[candidate.nextReader++];
        if (candidates[reader].visit == Visit::DONE) continue;
        if (candidates[reader].visit == Visit::UNDER_WAY) {
          candidates[reader].copy.source.clear();
          continue;
        }
        stack.push_back(reader);
        isWaiting = true;
      }
    }
    if (isWaiting) continue;
    candidate.visit = Visit::DONE;
    stack.pop_back();
    if (!candidate.copy.source.empty()) ordered.push_back(std::move(candidate.copy));
  }
}

std::vector<Copy> CopyFinder::run() {
  if (!draft.options.findContent) return {};
  for (const auto& [path, item] : draft.items) {
    if (auto copy = copyFor(path, item)) candidates.push_back({std::move(*copy), item.decision.side});
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    readers[indexOf(candidates[i].side)][candidates[i].copy.source].push_back(i);
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].visit == Visit::NOT_YET) visit(i);
  }
  return std::move(ordered);
}

}  // namespace

bool canBeMadeEarly(Draft& draft, const std::string& path, Side side) {
  for (std::string folder(parentOf(path)); !folder.empty(); folder = parentOf(folder)) {
    const Item* item = draft.find(folder);
    if (item == nullptr || isFolder(item->on(side))) return true;
    if (item->on(side) || item->decision.kind != Decision::Kind::CREATE) return false;
  }
  return true;
}

std::vector<Copy> findCopies(Draft& draft) { return CopyFinder(draft).run(); }

}  // namespace capstan::sync
