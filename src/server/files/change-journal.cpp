#include <capstan/server/files/change-journal.h>

#include <algorithm>

#include <capstan/base/digest.h>

namespace capstan::server::files {

namespace {

constexpr size_t EPOCH_BYTES = 16;
constexpr size_t NUMBER_BYTES = 8;
constexpr size_t PAGE_BYTES = 1 << 20;

size_t bytesOf(const Change& change) { return change.path.size() + change.from.size(); }

}  // namespace

ChangeJournal::ChangeJournal() : ChangeJournal(Options()) {}

ChangeJournal::ChangeJournal(Options options) : options(options), epoch(randomBytes(EPOCH_BYTES)) {}

void ChangeJournal::add(std::vector<Change> changes) {
  if (changes.empty()) return;
  std::vector<kj::Own<Waiter>> waiting;
  {
    std::lock_guard lock(mutex);
    for (auto& change : changes) {
      bytes += bytesOf(change);
      ring.push_back(std::move(change));
    }
    while (ring.size() > options.changes || bytes > options.bytes) {
      bytes -= bytesOf(ring.front());
      ring.pop_front();
      ++first;
    }
    std::swap(waiting, waiters);
  }
  for (auto& waiter : waiting) waiter->fulfill();
}

uint64_t ChangeJournal::end() const {
  std::lock_guard lock(mutex);
  return first + ring.size();
}

ChangeJournal::Page ChangeJournal::read(uint64_t from, size_t max) const {
  Page page;
  std::lock_guard lock(mutex);
  page.overflow = from < first;
  uint64_t end = first + ring.size();
  // What is still known of a time in which something was lost says nothing that the overflow does not say.
  page.next = page.overflow ? end : from;
  size_t read = 0;
  while (page.next < end && page.changes.size() < max && read < PAGE_BYTES) {
    const Change& change = ring[size_t(page.next - first)];
    ++page.next;
    if (change.kind == ChangeKind::UNSET) {
      page.overflow = true;
      continue;
    }
    read += bytesOf(change);
    page.changes.push_back(change);
  }
  return page;
}

kj::Promise<void> ChangeJournal::reaches(uint64_t number) {
  std::lock_guard lock(mutex);
  if (first + ring.size() > number) return kj::READY_NOW;
  std::erase_if(waiters, [](auto& waiter) { return !waiter->isWaiting(); });
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  waiters.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

std::string ChangeJournal::cursorOf(uint64_t number) const {
  std::string cursor = epoch;
  for (size_t i = NUMBER_BYTES; i-- > 0;) cursor.push_back(char(number >> (8 * i)));
  return cursor;
}

std::optional<uint64_t> ChangeJournal::numberOf(std::string_view cursor) const {
  if (cursor.size() != EPOCH_BYTES + NUMBER_BYTES || cursor.substr(0, EPOCH_BYTES) != epoch) return std::nullopt;
  uint64_t number = 0;
  for (char byte : cursor.substr(EPOCH_BYTES)) number = number << 8 | static_cast<unsigned char>(byte);
  if (number > end()) return std::nullopt;
  return number;
}

}  // namespace capstan::server::files
