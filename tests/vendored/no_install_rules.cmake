# cmake -DRULES=.../cmake_install.cmake -P no_install_rules.cmake
file(STRINGS "${RULES}" rules REGEX "file\\(INSTALL")
if(rules)
  message(FATAL_ERROR "No install rules may come, but these came: ${rules}")
endif()
