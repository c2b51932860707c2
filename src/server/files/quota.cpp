#include <capstan/server/files/quota.h>

#include <fcntl.h>

#include <algorithm>

#include <capstan/base/path.h>
#include <capstan/base/saturating.h>
#include <capstan/base/text.h>
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
  std::lock_guard lock(mutex);
  if (!known) return true;
  auto age = Clock::now() - measured;
  if (wanted > 0 && age > std::max<Clock::duration>(OUT_OF_DATE, took * MEASURING_SHARE)) return true;
  int64_t after = saturatingSum(total, saturatingSigned(wanted));
  return wanted > 0 && after > saturatingSigned(bound) && age > REMEASURE_TIME;
}

bool Usage::isOlderThan(Clock::duration age) const {
  std::lock_guard lock(mutex);
  return !known || Clock::now() - measured > std::max<Clock::duration>(age, took * MEASURING_SHARE);
}

void Usage::prepare(uint64_t wanted, uint64_t bound) {
  if (!isDue(wanted, bound)) return;
  std::lock_guard one(measuring);
  if (isDue(wanted, bound)) measure();  // else somebody else has just done it
}

void Usage::refresh() {
  if (!isOlderThan(REMEASURE_TIME)) return;
  std::lock_guard one(measuring);
  if (isOlderThan(REMEASURE_TIME)) measure();
}

void Usage::measure() {
  {
    std::lock_guard lock(mutex);
    meanwhile = 0;
  }
  auto begin = Clock::now();
  // A folder that is not there holds nothing.
  auto folder = storage::newRootBeneath(served, path)->open("", O_RDONLY | O_DIRECTORY, Follow::NO);
  uint64_t found = folder.ok() ? storage::contentIn(*folder, ".") : 0;
  std::lock_guard lock(mutex);
  measured = Clock::now();
  took = measured - begin;
  found -= std::min(found, storage::LEAST_CHARGE);  // the folder itself
  total = saturatingSum(saturatingSigned(found), std::max<int64_t>(meanwhile, 0));
  known = true;
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

storage::TrashBound Quota::ofTrash() const {
  usage->refresh();
  return {holder, bound, usage->bytes(), label};
}

std::string holderOf(const Grant& grant) {
  if (grant.isOwner()) return {};
  return joinPath(holderOf(*grant.parent), grant.id);
}

std::shared_ptr<Usage> Quotas::usageOf(const std::string& path) {
  std::lock_guard lock(mutex);
  auto& usage = usages[path];
  if (usage == nullptr) usage = std::make_shared<Usage>(served, path);
  return usage;
}

std::vector<Quota> Quotas::of(const Grant& grant) {
  std::vector<Quota> quotas;
  for (const Grant* each = &grant; each != nullptr; each = each->parent.get()) {
    const ShareTerms& terms = each->terms;
    if (terms.quota == 0) continue;
    std::string label =
        terms.label.empty() ? "the share " + each->id : "the share \"" + escapeForTerminal(terms.label) + "\"";
    quotas.emplace_back(usageOf(terms.path), terms.quota, std::move(label), holderOf(*each));
  }
  return quotas;
}

uint64_t Quotas::stored(const std::string& path) const {
  std::lock_guard lock(mutex);
  auto found = usages.find(path);
  return found == usages.end() ? 0 : found->second->bytes();
}

}  // namespace capstan::server::files
