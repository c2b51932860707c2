// How much the runs of a share may keep: held when something comes into one of them, and when the trash's thread has
// looked what is there.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <set>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/base/text.h>
#include <capstan/storage/trash-impl.h>
#include <capstan/storage/usage.h>

namespace capstan::storage {

namespace {

// What a run that may take in nothing more may still say of what it makes, moves and sets.
constexpr uint64_t RECORDS_BYTES = 1 << 20;
constexpr uint64_t RECORDS_SHARE = 10;  // and this part of the bound

// Whether a run may keep that although it is more than the bound: it is the only one, so that nothing else can go, and
// what comes was there before it, so that there is an end to it.
bool mayGoBeyond(const TrashBound& bound, const Arrival& arrival, uint64_t total, uint64_t own) {
  bool isOnly = total <= own;
  switch (arrival.kind) {
    case Arrival::Kind::RECORDS: return arrival.journal <= RECORDS_BYTES + bound.bytes / RECORDS_SHARE;
    case Arrival::Kind::OLD: return isOnly;
    case Arrival::Kind::FOLDER: return isOnly && total <= bound.before;
    case Arrival::Kind::FROM_TRASH: return true;  // what it changes places with leaves the trash
    case Arrival::Kind::NEW: break;
  }
  return false;
}

Error tooMuch(const TrashBound& bound, uint64_t total) {
  return Error{ErrorCode::QUOTA,
               "the runs of " + bound.label + " that are under way keep " + std::to_string(total) +
                   " bytes in the trash, where they may keep " + std::to_string(bound.bytes) +
                   "; end them, and begin another",
               {}};
}

}  // namespace

void TrashImpl::bind(RunFolder::Options& options, std::vector<TrashBound> bounds) {
  TrashLedger::Run run{toHex(options.id), options.scope.holder, nowNanoseconds()};
  ledger.remember(run, bounds);
  options.grown = [this, run](int64_t growth, int64_t began) { ledger.add({run.name, run.holder, began}, growth); };
  options.admit = [this, run, bounds = std::move(bounds)](const Arrival& arrival, int64_t began) {
    return admit({run.name, run.holder, began}, bounds, arrival);
  };
}

bool TrashImpl::dropOldest(const TrashBound& bound, std::string holder, uint64_t wanted, const std::string& except) {
  while (true) {
    std::optional<TrashLedger::Position> next;
    while ((next = ledger.following(holder, next))) {
      if (next->name == except) continue;
      if (!drop(next->name) && isKept(next->name)) continue;
      ledger.forget(next->name);
      if (saturatingSum(ledger.total(bound.holder), wanted) <= bound.bytes) return true;
    }
    if (holder.size() <= bound.holder.size()) return false;
    holder = std::string(parentOf(holder));
  }
}

Status TrashImpl::admit(const TrashLedger::Run& run, const std::vector<TrashBound>& bounds, const Arrival& arrival) {
  ledger.note(bounds, run.holder);
  if (arrival.kind == Arrival::Kind::FROM_TRASH) {
    struct stat leaving;
    bool isThere = fstatat(trash, arrival.origin.c_str(), &leaving, AT_SYMLINK_NOFOLLOW) == 0;
    if (isThere) ledger.take(arrival.origin.substr(0, arrival.origin.find('/')), chargeOf(leaving));
  }
  for (auto& bound : bounds) {
    auto fits = [&] { return saturatingSum(ledger.total(bound.holder), arrival.bytes) <= bound.bytes; };
    if (fits()) continue;
    uint64_t own = ledger.bytes(run.name);
    if (ledger.total(bound.holder) > own && dropOldest(bound, run.holder, arrival.bytes, run.name)) continue;
    uint64_t total = ledger.total(bound.holder);
    if (!mayGoBeyond(bound, arrival, total, own)) return tooMuch(bound, total);
  }
  ledger.add(run, int64_t(arrival.bytes));
  // What is in a folder is known when somebody has looked.
  if (arrival.kind == Arrival::Kind::FOLDER) sweepSoon();
  return okStatus();
}

void TrashImpl::keepBounds() {
  forgetGone();
  for (auto& [bound, by] : ledger.takeNoted()) {
    auto latest = ledger.latest(bound.holder);
    if (latest && ledger.total(bound.holder) > bound.bytes) dropOldest(bound, by, 0, *latest);
  }
}

void TrashImpl::forgetGone() {
  // In this order: what is begun meanwhile is either in use or there.
  auto names = ledger.names();
  std::set<std::string> present;
  {
    std::lock_guard lock(mutex);
    for (auto& [id, run] : active) {
      if (!run.expired()) present.insert(toHex(id));
    }
  }
  for (auto& name : folders()) present.insert(std::move(name));
  for (auto& name : names) {
    if (!present.contains(name)) ledger.forget(name);
  }
}

}  // namespace capstan::storage
