// The bytes of every file below a folder, to bring it back to what it was, or to keep it as text.
//
//   const FolderPicture whole = FolderPicture::Of(dir / "data");
//   ... opened, recovered, appended to ...
//   whole.WriteTo(dir / "data");          // files that are still there keep their inodes
//
// As text (tests/golden/): a line for each folder and file, and one for each 32 bytes of a file
// that are not all zero. Why text: files of fixed size are mostly zeros, and a change can be read.
//
//   folder topics
//   file topics/t/config 41
//   0 746f7069632e69643d...

#ifndef CORDWOOD_TESTS_SUPPORT_FOLDER_PICTURE_H_
#define CORDWOOD_TESTS_SUPPORT_FOLDER_PICTURE_H_

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace cordwood::testing {

struct FolderPicture {
  std::set<std::string> folders = {};             // relative, a parent before what is in it
  std::map<std::string, std::string> files = {};  // relative path to bytes

  static FolderPicture Of(const std::filesystem::path& folder);
  // The folder, which is made if need be, holds this and nothing else.
  void WriteTo(const std::filesystem::path& folder) const;

  std::string ToText() const;
  static FolderPicture FromText(std::string_view text);

  friend bool operator==(const FolderPicture&, const FolderPicture&) = default;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_FOLDER_PICTURE_H_
