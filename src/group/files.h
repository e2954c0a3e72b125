// How a group's folder is made and removed, in steps of which each leaves either a whole
// group or a dot name, which the next first opener sweeps.

#ifndef CORDWOOD_GROUP_FILES_H_
#define CORDWOOD_GROUP_FILES_H_

#include <functional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cordwood/group/offsets.h"
#include "cordwood/os/storage.h"

namespace cordwood::group {

inline constexpr char kGroupsFolder[] = "groups";
inline constexpr char kNewPrefix[] = ".new-";
inline constexpr char kDeletedPrefix[] = ".deleted-";
inline constexpr char kSharePrefix[] = "share-";

inline constexpr std::uint64_t kMemberByte = 0;
inline constexpr std::uint64_t kMakingLiveByte = 1;
inline constexpr std::uint64_t kShareByte = 2;
inline constexpr std::uint64_t kFirstSlotByte = 16;

// For absl::StrCat, whose string_view is a type of its own in some builds.
inline absl::string_view Piece(std::string_view text) { return {text.data(), text.size()}; }

// "groups/.new-0123456789abcdef0123456789abcdef"
std::string UniqueFolder(Storage& storage, const char* prefix);

// What a share group knows of a partition: "share-0123456789abcdef0123456789abcdef-3"
std::string ShareFileName(const os::Bits128& topic_id, int partition);

// The group's folder with an empty image, whole or not at all. Also OK when somebody else
// has been faster.
absl::Status CreateGroup(const log::Context& context, const std::string& folder);
absl::Status RemoveFolderAndFiles(os::Folder& root, const std::string& folder);

// kDataLoss unless the header is that of an image.
absl::Status CheckOffsetsHeader(os::File& file, const std::string& path);
// The bytes of a whole image of these entries.
absl::Status WriteImage(os::File& file, int entries, absl::FunctionRef<OffsetEntry(int)> entry);
// Calls f(number, entry) for the entries [from, to) that the file has.
absl::Status ReadEntries(os::File& file, int from, int to,
                         absl::FunctionRef<void(int, const OffsetEntry&)> f);
// How many entries the file has room for.
absl::StatusOr<int> EntriesIn(os::File& file);

inline std::uint64_t EntryAt(int entry) {
  return kHeaderBytes + static_cast<std::uint64_t>(entry) * sizeof(OffsetEntry);
}
inline std::uint64_t LiveEntryAt(int entry) {
  return kLiveEntriesAt + static_cast<std::uint64_t>(entry) * sizeof(LiveEntry);
}

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_FILES_H_
