// The journal of one run, on disk: `.capstan/trash/RUN/journal`, one record after the other, each with its length and a
// checksum. A tail that was torn by a crash is left out. Beside it, `files/` holds what was displaced, under numbers.
#pragma once

#include <string>
#include <vector>

#include <kj/io.h>

#include <capstan/storage/run.h>
#include <capstan/storage/trash.h>

namespace capstan::storage {

inline constexpr const char* JOURNAL_FILE = "journal";
inline constexpr const char* DISPLACED_FOLDER = "files";

// The mode of a journal that lacks records which could not be written, of a run that can therefore not be undone: a
// mark that needs no room on the disk.
inline constexpr unsigned WHOLE_JOURNAL = 0600;
inline constexpr unsigned JOURNAL_WITH_GAPS = 0700;
// Of a journal that is open.
bool hasGaps(int fd);

// The record as it stands in the file.
std::string encode(const RunRecord& record);

struct Journal {
  std::vector<RunRecord> records;
  uint64_t bytes = 0;  // of them in the file; less than its size if the tail is torn
};
// Of bytes that begin with a record. Ends before the first that is not whole.
Journal decodeJournal(std::string_view bytes);
// Of a journal that is open for reading. Blocks.
Result<Journal> readJournal(int fd);

// A run's scope, as it stands in `after` of its BEGIN: empty in journals that were begun before there were scopes, and
// for the owner of everything.
std::string encode(const RunScope& scope);
RunScope scopeOf(const std::vector<RunRecord>& records);

// That there is none with this name, or none for whoever asks.
Error noSuchRun(const std::string& name);

// Whether the record says that something is in the folder of displaced things.
inline bool isDisplacement(const RunRecord& record) {
  return record.number != 0 && (record.kind == RunRecord::Kind::REPLACED || record.kind == RunRecord::Kind::REMOVED);
}

// Whether whoever added last did not close the journal. What it had recorded is there, unless the system has ended
// with it.
enum class CutOff { NO, BY_KILL, WITH_SYSTEM };
CutOff cutOff(const std::vector<RunRecord>& records);

// Tells one boot of the system from the next.
const std::string& bootId();

int64_t nowNanoseconds();

}  // namespace capstan::storage
