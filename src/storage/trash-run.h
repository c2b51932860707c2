// One run's folder in the trash, while somebody may add to it. Internal to the trash.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <kj/io.h>

#include <capstan/storage/root.h>
#include <capstan/storage/run.h>
#include <capstan/storage/trash-journal.h>
#include <capstan/storage/trash.h>

namespace capstan::storage {

class Staging;

// What is about to come into the run of somebody who may keep so much and not more.
struct Arrival {
  enum class Kind {
    RECORDS,     // nothing else
    OLD,         // a file or symlink that was there before the run began
    NEW,         // one that came since
    FOLDER,      // with who knows what in it
    FROM_TRASH,  // what changes places with something that the trash has kept until now
  };
  Kind kind{};
  uint64_t bytes = 0;    // without what may be in a folder
  uint64_t journal = 0;  // bytes of the run's journal
  std::string origin;    // FROM_TRASH: where that is, below the trash's folder
};

// Holds the lock of its journal, so that no other server of the folder sweeps it or puts it right meanwhile.
class RunFolder final : public Run {
 public:
  struct Options {
    std::string id;
    std::string label;
    std::string client;
    RunScope scope;
    bool exchanges = true;        // the file system has RENAME_EXCHANGE
    std::function<void()> ended;  // called when the run is dropped that has displaced something
    // Of a run under bounds (else null): whether it may take in something, which is counted by then if it may; and what
    // comes, or does not come after all. `began`: of the run.
    std::function<Status(const Arrival&, int64_t began)> admit;
    std::function<void(int64_t growth, int64_t began)> grown;
  };
  // `trash` is the folder of all runs, and outlives it. Takes up what is there of the run; makes nothing before
  // something is to be recorded.
  static Result<std::shared_ptr<RunFolder>> open(const Root& root, Staging& staging, int trash, Options options);
  ~RunFolder() noexcept(false);

  const std::string& id() const override { return options.id; }
  bool exchanges() const override { return options.exchanges; }
  const RunScope& scope() const { return options.scope; }
  Result<Slot> reserve(const std::string& path, const std::string& from, const struct stat& displaced,
                       const std::string& origin, uint64_t placed) override;
  void giveUp(const Slot& slot) override;
  Status mayGoOn() override;
  void record(RunRecord record) override;
  void write(Round& round) override;

 private:
  RunFolder(const Root& root, Staging& staging, int trash, Options options);
  Status takeUp();  // what is there
  // Begun by somebody else, or elsewhere.
  bool isOthers(const Journal& known) const;
  Status make();  // what is not
  Result<Slot> newSlot(RunRecord intent);
  Arrival arrivalOf(const struct stat& displaced, const std::string& origin) const;
  void noteBegin();
  void grow(int64_t growth) const;
  // False: the folder was swept away before it was locked.
  Result<bool> tryToMake();
  Status lock();
  Status flushBuffer();
  void addMark(RunRecord::Kind kind);
  // Room in the journal for so much more, so that a full disk is noticed before something is displaced.
  Status makeRoom(size_t bytes);
  void giveRoomBack();
  // Marks that records are missing, or that they are there now; see JOURNAL_WITH_GAPS.
  void setGaps(bool missing);

  const Root& root;
  Staging& staging;
  const int trash;
  const Options options;
  const std::string name;  // of its folder
  kj::AutoCloseFd folder, files, journal;
  uint64_t nextNumber = 1;
  int64_t since;      // when it was opened for the first time, as far as that is known
  int64_t began = 0;  // with its first change
  uint64_t journalBytes = 0;
  uint64_t admitted = 0;  // by the last reserve()
  std::string buffer;     // records that are not in the file yet
  size_t room = 0;        // allocated behind the end of the journal
  bool written = false;   // since the last write()
  bool isOpened = false;  // on record
  bool isNew = false;     // its folder's own name is to be flushed too
  bool displaced = false;
  bool hasGaps = false;  // as it is marked, by us
  bool hadGaps = false;  // marked already when it was opened, for good
};

// Settles what a crash left in the middle: each intent that nothing followed has either happened, or is taken back. For
// a run whose journal is locked and open for appending. Blocks.
void settleIntents(const Root& root, Staging& staging, int trash, int files, int journal);

}  // namespace capstan::storage
