#include <capstan/server/files/cache.h>

#include <malloc.h>

#include <kj/debug.h>

namespace capstan::server::files {

struct Cache::Account {
  std::atomic<size_t> bytes{0};
};

namespace {

// What malloc keeps before each block, and rounds up to.
constexpr size_t HEADER_BYTES = 16;

// Memory of an entry besides the bytes of its content: Content with the control block of its shared_ptr, the nodes of
// list and index, two slots of the index's table (which grows by doubling), and the version's characters.
constexpr size_t ENTRY_BYTES = 384;

// Blocks of this size and more are mapped, in whole pages.
constexpr size_t MAPPED_BYTES = 128 << 10;
constexpr size_t PAGE_BYTES = 4096;

// At least what the allocator will give out for `size` bytes.
size_t chargeFor(size_t size) {
  size_t block = size + HEADER_BYTES + HEADER_BYTES;
  if (block >= MAPPED_BYTES) block = (block + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  return block + ENTRY_BYTES;
}

}  // namespace

Cache::Content::Content(const struct stat& status, std::shared_ptr<Account> account, size_t charge)
    : file(idOf(status)),
      version(versionOf(status)),
      size(size_t(status.st_size)),
      account(std::move(account)),
      charge(charge),
      bytes(new char[size]) {}

Cache::Content::~Content() {
  bytes = nullptr;
  account->bytes -= charge;
}

Cache::Cache(size_t limit, CachePolicy policy)
    : limit(limit), largest(limit / 8), policy(policy), account(std::make_shared<Account>()) {
  static_assert(sizeof(Content) + sizeof(Held) + 2 * sizeof(Order::iterator) + sizeof(FileId) + 8 * HEADER_BYTES + 33 <=
                ENTRY_BYTES);
}

Cache::~Cache() = default;

Cache::Held Cache::find(const struct stat& status) {
  if (!admits(uint64_t(status.st_size))) return nullptr;
  Version version = versionOf(status);
  Held stale;  // freed outside the lock
  std::lock_guard lock(mutex);
  auto found = index.find(idOf(status));
  if (found == index.end() || (*found->second)->version != version) {
    ++misses;
    if (found != index.end()) {
      stale = *found->second;
      drop(found->second);
    }
    return nullptr;
  }
  ++hits;
  if (policy == CachePolicy::LRU) order.splice(order.end(), order, found->second);
  return *found->second;
}

bool Cache::holds(const FileId& file, const Version& version) const {
  std::lock_guard lock(mutex);
  auto found = index.find(file);
  return found != index.end() && (*found->second)->version == version;
}

Cache::Room Cache::makeRoom(const struct stat& before) {
  auto size = uint64_t(before.st_size);
  if (!admits(size) || !isSettled(before)) return nullptr;
  size_t charge = chargeFor(size);
  {
    std::lock_guard lock(mutex);
    if (!evictFor(charge)) return nullptr;
    account->bytes += charge;
  }
  auto room = std::make_shared<Content>(before, account, charge);
  KJ_DASSERT(malloc_usable_size(room->data()) + HEADER_BYTES + ENTRY_BYTES <= charge);
  return room;
}

void Cache::insert(Room content, const struct stat& after) {
  if (content == nullptr || content->version != versionOf(after)) return;
  Held replaced;  // freed outside the lock
  std::lock_guard lock(mutex);
  auto found = index.find(content->file);
  if (found != index.end()) {
    if ((*found->second)->version == content->version) return;  // another reader was faster
    replaced = *found->second;
    drop(found->second);
  }
  order.push_back(std::move(content));
  index.emplace(order.back()->file, std::prev(order.end()));
}

CacheFigures Cache::figures() const {
  std::lock_guard lock(mutex);
  return {account->bytes.load(), limit, index.size(), hits, misses, evictions, policy};
}

void Cache::drop(Order::iterator entry) {
  index.erase((*entry)->file);
  order.erase(entry);
}

bool Cache::evictFor(size_t charge) {
  if (charge > limit) return false;
  for (auto entry = order.begin(); entry != order.end() && account->bytes + charge > limit;) {
    auto candidate = entry++;
    // New holders come from find() only, under this lock: a count of one does not rise.
    if (candidate->use_count() > 1) continue;
    drop(candidate);
    ++evictions;
  }
  return account->bytes + charge <= limit;
}

}  // namespace capstan::server::files
