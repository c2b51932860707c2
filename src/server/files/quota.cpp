#include <capstan/server/files/quota.h>

#include <fcntl.h>

#include <algorithm>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/storage/beneath.h>
#include <capstan/storage/usage.h>

namespace capstan::server::files {

namespace {

using std::chrono::seconds;

// Measuring walks through all folders: it is not repeated more often than this, however much is refused meanwhile.
constexpr seconds REMEASURE_TIME(10);
// What other programs, the owner and other shares bring is not counted as it comes: so it is looked at now and then.
constexpr seconds OUT_OF_DATE(60);
constexpr int64_t MEASURING_SHARE = 50;  // at most this part of the time goes into it

}  // namespace

bool Usage::isDue(uint64_t wanted, uint64_t bound) const {
  if (!known) return true;
  auto age = Clock::now() - measured;
  if (wanted > 0 && age > std::max<Clock::duration>(OUT_OF_DATE, took * MEASURING_SHARE)) return true;
  int64_t after = saturatingSum(total, saturatingSigned(wanted));
  return wanted > 0 && after > saturatingSigned(bound) && age > REMEASURE_TIME;
}

bool Usage::isOlderThan(Clock::duration age) const {
  return !known || Clock::now() - measured > std::max<Clock::duration>(age, took * MEASURING_SHARE);
}

Status Usage::prepare(uint64_t wanted, uint64_t bound) {
  std::unique_lock lock(mutex);
  return isDue(wanted, bound) ? measure(std::move(lock)) : okStatus();
}

Status Usage::refresh() {
  std::unique_lock lock(mutex);
  return isOlderThan(REMEASURE_TIME) ? measure(std::move(lock)) : okStatus();
}

Status Usage::measure(std::unique_lock<std::mutex> lock) {
  if (current != nullptr) return storage::beingMeasured();
  auto mine = current = std::make_shared<Measurement>();
  meanwhile = 0;
  lock.unlock();
  if (goOn(*mine)) return okStatus();
  auto self = shared_from_this();
  measuring->add({[self, mine]() { return self->goOn(*mine); }, [self, mine]() { self->finish(*mine, {}); }});
  return storage::beingMeasured();
}

bool Usage::goOn(Measurement& measurement) {
  if (!measurement.walk) {
    auto folder = storage::newRootBeneath(served, path)->open("", O_RDONLY | O_DIRECTORY, Follow::NO);
    if (!folder.ok()) {  // a folder that is not there holds nothing
      finish(measurement, 0);
      return true;
    }
    measurement.folder = kj::mv(*folder);
    measurement.walk.emplace(measurement.folder, ".");
  }
  size_t budget = storage::ContentWalk::SLICE;
  if (!measurement.walk->step(budget)) return false;
  finish(measurement, measurement.walk->bytes());
  return true;
}

void Usage::finish(const Measurement& measurement, std::optional<uint64_t> found) {
  std::vector<Waiter> waited;
  {
    std::lock_guard lock(mutex);
    current = nullptr;
    waited.swap(waiters);
    if (found) {
      measured = Clock::now();
      took = measured - measurement.begin;
      *found -= std::min(*found, storage::LEAST_CHARGE);  // the folder itself
      total = saturatingSum(saturatingSigned(*found), std::max<int64_t>(meanwhile, 0));
      known = true;
    }
  }
  for (auto& waiter : waited) waiter->fulfill();
}

kj::Promise<void> Usage::whenMeasured() {
  std::lock_guard lock(mutex);
  if (current == nullptr) return kj::READY_NOW;
  if (waiters.size() >= waitersToLookAt) {
    std::erase_if(waiters, [](Waiter& waiter) { return !waiter->isWaiting(); });
    waitersToLookAt = std::max<size_t>(64, 2 * waiters.size());
  }
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  waiters.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

uint64_t Usage::bytes() const {
  std::lock_guard lock(mutex);
  return uint64_t(std::max<int64_t>(total, 0));
}

void Usage::add(int64_t growth) {
  std::lock_guard lock(mutex);
  total = saturatingSum(total, growth);
  meanwhile = saturatingSum(meanwhile, growth);
}

Status Quota::check(int64_t growth) const {
  if (growth <= 0) return okStatus();
  uint64_t used = usage->bytes();
  if (used <= bound && uint64_t(growth) <= bound - used) return okStatus();
  return Error{ErrorCode::QUOTA,
               label + " may hold " + std::to_string(bound) + " bytes, and has " + std::to_string(used) +
                   " already; remove something, or ask whoever gave it to you for more room",
               {}};
}

Status Quota::checkAlone(uint64_t bytes) const {
  if (bytes <= bound) return okStatus();
  return Error{ErrorCode::QUOTA, label + " may hold " + std::to_string(bound) + " bytes, and this has more", {}};
}

Result<storage::TrashBound> Quota::ofTrash() const {
  Status known = usage->refresh();
  if (!known.ok()) return known.error();
  return storage::TrashBound{holder, bound, usage->bytes(), label};
}

std::string holderOf(const Grant& grant) {
  if (grant.isOwner()) return {};
  return joinPath(holderOf(*grant.parent), grant.id);
}

std::shared_ptr<Usage> Quotas::usageOf(const std::string& path) {
  std::lock_guard lock(mutex);
  auto& usage = usages[path];
  if (usage == nullptr) usage = std::make_shared<Usage>(served, path, measuring);
  return usage;
}

std::vector<Quota> Quotas::of(const Grant& grant) {
  std::vector<Quota> quotas;
  for (const Grant* each = &grant; each != nullptr; each = each->parent.get()) {
    const ShareTerms& terms = each->terms;
    if (terms.quota == 0) continue;
    quotas.emplace_back(usageOf(terms.path), terms.quota, nameFor(grant, *each), holderOf(*each));
  }
  return quotas;
}

uint64_t Quotas::stored(const std::string& path) const {
  std::lock_guard lock(mutex);
  auto found = usages.find(path);
  return found == usages.end() ? 0 : found->second->bytes();
}

}  // namespace capstan::server::files
