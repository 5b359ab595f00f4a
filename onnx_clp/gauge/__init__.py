"""What an edit does to ordinary images, predicted without the user's: photographs, doses and the loss they foretell."""
