#include <capstan/server/files/granted-mutation.h>

#include <capstan/base/path.h>
#include <capstan/storage/run.h>

namespace capstan::server::files {

namespace {

// Tells a run of what lies in a tree below `top`.
class RunBeneath final : public Run {
 public:
  RunBeneath(Run& outer, const std::string& top) : outer(outer), top(top) {}

  const std::string& id() const override { return outer.id(); }
  bool exchanges() const override { return outer.exchanges(); }
  Result<Slot> reserve(const std::string& path, const std::string& from, const struct stat& displaced,
                       const std::string& origin, uint64_t placed) override {
    return outer.reserve(joinPath(top, path), from.empty() ? from : joinPath(top, from), displaced, origin, placed);
  }
  void giveUp(const Slot& slot) override { outer.giveUp(slot); }
  void record(RunRecord record) override {
    record.path = joinPath(top, record.path);
    if (record.kind == RunRecord::Kind::MOVED) record.from = joinPath(top, record.from);
    outer.record(std::move(record));
  }
  Status mayGoOn() override { return outer.mayGoOn(); }
  void write(Round& round) override { outer.write(round); }

 private:
  Run& outer;
  const std::string& top;
};

// The committer's round, for one mutation in a tree below `top`.
class RoundBeneath final : public Round {
 public:
  RoundBeneath(Round& outer, const Root& root, const std::string& top, const Grant& grant)
      : Round(root, outer.staging, outer.disk), outer(outer), top(top) {
    if (!grant.isOwner()) modes = storage::ModeMask::ofOthers();
    if (outer.run == nullptr) return;
    runBeneath.emplace(*outer.run, top);
    run = &*runBeneath;
  }

  void touch(kj::AutoCloseFd fd) override { outer.touch(kj::mv(fd)); }
  void touchFileSystemOf(kj::AutoCloseFd fd) override { outer.touchFileSystemOf(kj::mv(fd)); }
  void applied(Committer::Applied change) override {
    change.path = joinPath(top, change.path);
    if (change.kind == Committer::Applied::Kind::MOVED) change.from = joinPath(top, change.from);
    outer.applied(std::move(change));
  }

 private:
  Round& outer;
  const std::string& top;
  std::optional<RunBeneath> runBeneath;
};

}  // namespace

GrantedMutation::GrantedMutation(std::unique_ptr<Mutation> inner, std::shared_ptr<const void> owner, const Root& root,
                                 const std::string& top, const Grant& grant, const std::vector<Quota>& quotas)
    : inner(std::move(inner)), owner(std::move(owner)), root(root), top(top), grant(grant), quotas(quotas) {}

bool GrantedMutation::prepare(Round& outer) {
  RoundBeneath round(outer, root, top, grant);
  return inner->prepare(round);
}

Status GrantedMutation::flushContent(Round& outer) {
  RoundBeneath round(outer, root, top, grant);
  return inner->flushContent(round);
}

Result<Entry> GrantedMutation::apply(Round& outer) {
  if (auto ended = grant.ended()) return *ended;
  if (quotas.empty()) return applyWithin(outer);
  Status mayGoOn = outer.run == nullptr ? okStatus() : outer.run->mayGoOn();
  if (!mayGoOn.ok()) return mayGoOn.error();
  int64_t growth = inner->growth(root);
  for (auto& quota : quotas) {
    Status fits = quota.check(growth);
    if (!fits.ok()) return fits.error();
  }
  auto entry = applyWithin(outer);
  if (entry.ok()) {
    for (auto& quota : quotas) quota.add(growth);
  }
  return entry;
}

Result<Entry> GrantedMutation::applyWithin(Round& outer) {
  RoundBeneath round(outer, root, top, grant);
  return inner->apply(round);
}

}  // namespace capstan::server::files
