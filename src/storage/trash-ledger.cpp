#include <capstan/storage/trash-ledger.h>

#include <algorithm>
#include <utility>

#include <capstan/base/path.h>

namespace capstan::storage {

const TrashLedger::Account* TrashLedger::accountOf(const std::string& holder) const {
  auto found = accounts.find(holder);
  return found == accounts.end() ? nullptr : &found->second;
}

uint64_t TrashLedger::total(const std::string& holder) const {
  std::lock_guard lock(mutex);
  auto account = accountOf(holder);
  return account == nullptr ? 0 : account->total;
}

uint64_t TrashLedger::bytes(const std::string& name) const {
  std::lock_guard lock(mutex);
  auto found = items.find(name);
  return found == items.end() ? 0 : found->second.bytes;
}

std::optional<TrashLedger::Position> TrashLedger::following(const std::string& holder,
                                                            const std::optional<Position>& position) const {
  std::lock_guard lock(mutex);
  auto account = accountOf(holder);
  if (account == nullptr) return {};
  auto next = position ? account->runs.upper_bound(*position) : account->runs.begin();
  if (next == account->runs.end()) return {};
  return *next;
}

std::optional<std::string> TrashLedger::latest(const std::string& holder) const {
  std::lock_guard lock(mutex);
  auto account = accountOf(holder);
  if (account == nullptr) return {};
  return account->runs.rbegin()->name;
}

std::vector<std::string> TrashLedger::names() const {
  std::lock_guard lock(mutex);
  std::vector<std::string> names;
  for (auto& [name, item] : items) names.push_back(name);
  return names;
}

TrashLedger::Item& TrashLedger::itemOf(const Run& run) {
  Item& item = items[run.name];
  if (item.bytes == 0) item.run = run;  // in no account yet
  return item;
}

// An account has those runs that keep something, and there is one for whom has some.
void TrashLedger::set(Item& item, uint64_t bytes) {
  uint64_t before = std::exchange(item.bytes, bytes);
  Position position{item.run.began, item.run.name};
  for (std::string_view holder = item.run.holder; !holder.empty(); holder = parentOf(holder)) {
    auto found = accounts.try_emplace(std::string(holder)).first;
    Account& account = found->second;
    account.total = account.total - before + bytes;
    if (bytes > 0) {
      account.runs.insert(position);
    } else {
      account.runs.erase(position);
    }
    if (account.runs.empty()) accounts.erase(found);
  }
}

void TrashLedger::add(const Run& run, int64_t growth) {
  if (run.holder.empty()) return;
  std::lock_guard lock(mutex);
  Item& item = itemOf(run);
  if (growth > 0) {
    item.came += uint64_t(growth);
    set(item, item.bytes + uint64_t(growth));
  } else {
    set(item, item.bytes - std::min(item.bytes, uint64_t(-growth)));
  }
}

void TrashLedger::take(const std::string& name, uint64_t bytes) {
  std::lock_guard lock(mutex);
  auto found = items.find(name);
  if (found != items.end()) set(found->second, found->second.bytes - std::min(found->second.bytes, bytes));
}

void TrashLedger::forget(const std::string& name) {
  std::lock_guard lock(mutex);
  auto found = items.find(name);
  if (found == items.end()) return;
  set(found->second, 0);
  items.erase(found);
}

uint64_t TrashLedger::beforeLook(const std::string& name) const {
  std::lock_guard lock(mutex);
  auto found = items.find(name);
  return found == items.end() ? 0 : found->second.came;
}

void TrashLedger::found(const Run& run, uint64_t bytes, uint64_t beforeLook) {
  if (run.holder.empty()) return;
  std::lock_guard lock(mutex);
  Item& item = itemOf(run);
  set(item, bytes + (item.came - std::min(item.came, beforeLook)));
}

void TrashLedger::remember(const Run& run, std::vector<TrashBound>& bounds) {
  std::lock_guard lock(mutex);
  Item& item = itemOf(run);
  for (TrashBound& bound : bounds) bound.before = item.before.emplace(bound.holder, bound.before).first->second;
}

void TrashLedger::note(const std::vector<TrashBound>& bounds, const std::string& by) {
  std::lock_guard lock(mutex);
  for (auto& bound : bounds) noted.try_emplace(bound.holder, Noted{bound, by}).first->second.by = by;
}

std::vector<TrashLedger::Noted> TrashLedger::takeNoted() {
  std::lock_guard lock(mutex);
  std::vector<Noted> all;
  for (auto& [holder, each] : std::exchange(noted, {})) all.push_back(each);
  return all;
}

}  // namespace capstan::storage
